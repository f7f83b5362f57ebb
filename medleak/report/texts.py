"""Tables as fixed-width text, Markdown and LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from medleak.report import gains, inferred_tables, naming, rebuilt_tables
from medleak.report.aggregated import Aggregate, aggregate, by_goal
from medleak.report.columns import Cell, Column, Table
from medleak.report.tables import blocks, results
from medleak.results.row import Row

WIDTH = 136
_SHORT = (
    (" at ", "@"), (" FPR", ""), ("worst-group", "worst"), ("AUC c", "c"), ("identified c", "c"),
    ("without message", "without"), ("without the model", "without"), ("attribute", "attr."),
)  # fmt: skip


def terminal(rows: Iterable[Row]) -> str:
    """The results over seeds as text of at most `WIDTH` columns, a block per kind of record."""
    found = aggregate(rows)
    members, rebuilt = by_goal(found)
    made = [(results(block), block) for block in blocks(members)]
    made += [(rebuilt_tables.results(block), block) for block in blocks(rebuilt)]
    made += [
        (gains.results(block, look), block)
        for look, mine in gains.looks(found)
        for block in blocks(mine)
    ]
    made += inferred_tables.main(found)
    return "\n\n".join(_terminal(*one) for one in made) if made else "no rows"


def _terminal(table: Table, block: Sequence[Aggregate]) -> str:
    at = [i for i, column in enumerate(table.columns) if column.terminal]
    kept = [table.columns[i] for i in at]
    grid = [[_brief(table.columns[i], line.cells[i]) for i in at] for line in table.lines]
    for cells, line in zip(grid, table.lines, strict=True):
        if line.span:
            names = [cell for cell, column in zip(cells, kept, strict=True) if _leads(column)]
            cells[:] = [*names, line.span]
    leading = sum(map(_leads, kept))
    headers = [_short(column.header) for column in kept]
    widths = [
        max(
            len(text[i])
            for text in [headers, *grid]
            if i < leading or len(text) == len(kept)
        )
        for i in range(len(kept))
    ]  # fmt: skip
    right = [column.measured and column.brief for column in kept]
    rule = "─" * min(WIDTH, sum(widths) + 2 * len(widths) - 2)
    lines = [*textwrap.wrap(table.caption, WIDTH), rule, _fixed(headers, widths, right), rule]
    lines += [_fixed(cells, widths, right) for cells in grid]
    notes = [f"{one.attack} against {one.defense}: {one.note}" for one in block if one.seeds]
    above = [_above(one) for one in block if one.violations]
    lines += [note for note in notes if not note.endswith(": ")] + above
    return "\n".join(_cut(line) for line in lines)


def _leads(column: Column) -> bool:
    """A coordinate on the left, in contrast to seeds and status on the right."""
    return not column.measured and column.header not in ("seeds", "status")


def _above(one: Aggregate) -> str:
    names = ", ".join(map(naming.metric, one.violations))
    return f"{one.attack} against {one.defense}: ABOVE THE CEILING: {names}"


def _brief(column: Column, cell: Cell) -> str:
    text = cell.text if column.brief else cell.full
    return text if len(text) <= 24 or not _leads(column) else text[:23] + "…"


def _short(header: str) -> str:
    for long, short in _SHORT:
        header = header.replace(long, short)
    return header


def _fixed(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    spanned = len(cells) < len(widths)
    padded = [
        cell.rjust(width) if on_right and not spanned else cell.ljust(width)
        for cell, width, on_right in zip(cells, widths, right, strict=False)
    ]
    return "  ".join(padded).rstrip()


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def markdown(tables: Iterable[Table]) -> str:
    """GitHub tables, names escaped."""
    return "\n".join(_markdown(table) for table in tables if table.lines)


def _markdown(table: Table) -> str:
    first, covered = table.span_at
    lines = [f"## {table.title}", "", _md(table.caption), ""]
    lines.append("| " + " | ".join(_md(column.header) for column in table.columns) + " |")
    lines.append("|" + "|".join("--:" if c.measured else ":--" for c in table.columns) + "|")
    for line in table.lines:
        texts = [_md(cell.full) for cell in line.cells]
        if line.span and covered:
            texts[first : first + covered] = [_md(line.span), *[""] * (covered - 1)]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join([*lines, ""])


def _md(text: str) -> str:
    for mark in ("\\", "|", "<", ">", "*", "_", "`", "[", "]"):
        text = text.replace(mark, f"&#{ord(mark)};" if mark in "<>" else f"\\{mark}")
    return " ".join(text.split())


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "ε": r"$\varepsilon$", "δ": r"$\delta$", "·": r"$\cdot$", "<": r"\textless{}",
    "≥": r"$\geq$", "≤": r"$\leq$", ">": r"\textgreater{}", "*": r"$^{*}$",
    "−": "$-$", "σ": r"$\sigma$", "×": r"$\times$", "…": r"\ldots{}",
}  # fmt: skip


def tex(text: str) -> str:
    """`text` with every character that LaTeX would read as a command escaped."""
    return " ".join("".join(_TEX.get(character, character) for character in text).split())


def latex(tables: Iterable[Table]) -> str:
    """booktabs tables, names escaped."""
    head = "% \\usepackage{booktabs} \\usepackage{graphicx}\n"
    return head + "\n".join(_latex(table) for table in tables if table.lines)


def _latex(table: Table) -> str:
    first, covered = table.span_at
    align = "".join("r" if column.measured else "l" for column in table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{tex(table.title)}: {tex(table.caption)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(tex(column.header) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for line in table.lines:
        texts = [tex(cell.full) for cell in line.cells]
        if line.span and covered:
            texts[first : first + covered] = [
                rf"\multicolumn{{{covered}}}{{l}}{{{tex(line.span)}}}"
            ]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])
