"""Write the published result into the README, between its markers: no figure there is typed by hand.

python tools/readme_result.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from medleak.api import Estimate
from medleak.report import aggregate
from medleak.results.row import Row

ROOT = Path(__file__).resolve().parent.parent
NAME, MEMBERS = "pneumonia_dp", 1000
PUBLISHED = ROOT / "results" / "published" / NAME
BEGIN, END = "<!-- result:begin -->\n", "<!-- result:end -->\n"
HEAD = "| defense | attack | accuracy | AUC, natural | AUC, canaries | upper bound | n | seeds |"


def block() -> str:
    """The picture and the table of the larger training size."""
    rows = [Row.from_json(row) for row in json.loads((PUBLISHED / "rows.json").read_text())]
    found = [one for one in aggregate(rows) if one.row.n_members == MEMBERS]
    canaries = {(o.defense, o.attack): o for o in found if o.row.records == "mislabelled"}
    lines = [HEAD, "|:--|:--|--:|--:|--:|--:|--:|--:|"]
    for one in found:
        if one.row.records != "natural":
            continue
        other = canaries[one.defense, one.attack]
        upper_bound = _upper_bound(one)
        n = f"{one.leakage['auc'].n} + {other.leakage['auc'].n}"
        cells = [
            one.defense,
            one.attack,
            _figure(one.utility["accuracy"]),
            _figure(one.leakage["auc"]),
        ]
        cells += [_figure(other.leakage["auc"]), upper_bound, n, ", ".join(map(str, one.seeds))]
        lines.append(f"| {' | '.join(cells)} |")
    picture = next(PUBLISHED.glob("plots/leakage*.svg")).relative_to(ROOT)
    return "\n".join(
        [
            f"PneumoniaMNIST (chest X-rays of children), about {MEMBERS} members. A tenth of the labels is wrong",
            "on purpose (the canaries). All attacks but yeom use 16 shadows, trained under the target's defense.",
            f"Other sizes and metrics: [{NAME}](results/published/{NAME}).",
            "",
            f"![Leakage against accuracy, with upper bounds]({picture})",
            "",
            *lines,
            "",
        ]
    )


def _figure(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _upper_bound(one) -> str:
    if not one.row.guarantees:
        return "–"
    value = one.row.upper_bounds.get("auc")
    return "vacuous" if value is None else f"{value:.3f}"


def main() -> int:
    """Write the block, or with --check say whether it stands as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = before + BEGIN + block() + END + after
    if check:
        return int(text != wanted)
    path.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
