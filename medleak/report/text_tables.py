"""Tables as fixed-width text, Markdown and LaTeX: one back end, one table of escapes.

Libraries that print tables cut long names, leave ``|``, ``≥`` or ``ε`` as they are, or cannot let the
reason of an absent row span its columns; so this is the project's own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from medleak.report import formatting
from medleak.report.cells import Cell, Column, Line, Table
from medleak.report.specs import spec_of, specs
from medleak.report.tables import blocks, results
from medleak.results.aggregate import Aggregate, aggregate
from medleak.results.row import Row

WIDTH = 136
_ESCAPES = {
    # character: (Markdown, LaTeX); None: as it is.
    "\\": (r"\\", r"\textbackslash{}"), "|": (r"\|", r"\textbar{}"), "*": (r"\*", r"$^{*}$"),
    "_": (r"\_", r"\_"), "`": (r"\`", r"\textasciigrave{}"), "[": (r"\[", "{[}"), "]": (r"\]", "{]}"),
    "<": ("&#60;", r"\textless{}"), ">": ("&#62;", r"\textgreater{}"),
    "{": (None, r"\{"), "}": (None, r"\}"), "$": (None, r"\$"), "&": (None, r"\&"), "#": (None, r"\#"),
    "%": (None, r"\%"), "~": (None, r"\textasciitilde{}"), "^": (None, r"\textasciicircum{}"),
    '"': (None, r"\textquotedbl{}"), "–": (None, "--"), "—": (None, "---"), "…": (None, r"\ldots{}"),
    "ε": (None, r"$\varepsilon$"), "δ": (None, r"$\delta$"), "σ": (None, r"$\sigma$"),
    "μ": (None, r"$\mu$"), "·": (None, r"$\cdot$"), "×": (None, r"$\times$"), "±": (None, r"$\pm$"),
    "≥": (None, r"$\geq$"), "≤": (None, r"$\leq$"), "−": (None, "$-$"), "→": (None, r"$\rightarrow$"),
    "½": (None, r"$\frac{1}{2}$"), "“": (None, "``"), "”": (None, "''"),
}  # fmt: skip


def _escaper(form: int) -> Callable[[str], str]:
    table = {ord(c): forms[form] for c, forms in _ESCAPES.items() if forms[form] is not None}
    return lambda text: " ".join(text.translate(table).split())


md = _escaper(0)
tex = _escaper(1)
"""`text` without any character that LaTeX, or Markdown, would read as a command."""


def _grid(table: Table, escape: Callable[[str], str], span: Callable) -> list[list[str]]:
    """Every line as escaped cells; `span` makes of a reason and its number of columns their cells."""
    first, covered = table.span_at
    grid = []
    for line in table.lines:
        texts = [escape(cell.full) for cell in line.cells]
        if line.span and covered:
            texts[first : first + covered] = span(escape(line.span), covered)
        grid.append(texts)
    return grid


# --------------------------------------------------------------------------- terminal


def terminal(rows: Iterable[Row]) -> str:
    """The results over seeds as text of at most `WIDTH` columns, a table per block."""
    made = [
        _terminal(results(spec, block), block)
        for spec, lines in specs(aggregate(rows))
        for block in (blocks(lines) if spec.split else [lines])
    ]
    return "\n\n".join(made) if made else "no rows"


def _terminal(table: Table, block: Sequence[Aggregate]) -> str:
    at = [i for i, column in enumerate(table.columns) if column.terminal]
    kept = [table.columns[i] for i in at]
    headers = [column.short or column.header for column in kept]
    # Names differ at their ends: intervals but the first give way before names are cut short.
    first = next((i for i, column in enumerate(kept) if column.detail), 0)
    brief = [replace(column, detail=i == first) for i, column in enumerate(kept)]
    tries = [(kept, longest) for longest in range(60, 36, -4)]
    tries += [(brief, longest) for longest in range(60, 20, -4)]
    for kept, longest in tries:
        grid = [_spanned(line, kept, [line.cells[i] for i in at], longest) for line in table.lines]
        widths = _columns(headers, grid, sum(column.leads for column in kept))
        total = sum(widths) + 2 * len(widths) - 2
        if total <= WIDTH:
            break
    right = [column.measured and not column.detail for column in kept]
    rule = "─" * min(WIDTH, total)
    title = f"{table.title} · {table.caption}" if table.caption else table.title
    lines = [*textwrap.wrap(title, WIDTH), rule, _fixed(headers, widths, right), rule]
    lines += [_fixed(cells, widths, right) for cells in grid]
    noted = [one for one in block if one.seeds and one.note]
    lines += [f"{one.attack} against {one.defense}: {one.note}" for one in noted]
    lines += [_above(one) for one in block if one.violations]
    return "\n".join(_cut(line, WIDTH) for line in lines)


def _columns(headers: Sequence[str], grid: Sequence[Sequence[str]], leading: int) -> list[int]:
    """The width of each column; a reason widens none."""
    full = [texts for texts in (headers, *grid) if len(texts) == len(headers)]
    return [
        max(len(texts[i]) for texts in ([headers, *grid] if i < leading else full))
        for i in range(len(headers))
    ]


def _spanned(
    line: Line, columns: Sequence[Column], cells: Sequence[Cell], longest: int
) -> list[str]:
    """The cells as text; of a line without figures the coordinates, then the reason."""
    texts = [
        _cut(cell.text, longest) if column.leads else cell.full if column.detail else cell.text
        for column, cell in zip(columns, cells, strict=True)
    ]
    if not line.span:
        return texts
    leading = [text for text, column in zip(texts, columns, strict=True) if column.leads]
    return [*leading, line.span]


def _above(one: Aggregate) -> str:
    spec = spec_of(one.row.goal)
    names = ", ".join(formatting.metric(name, spec) for name in one.violations)
    return f"{one.attack} against {one.defense}: ABOVE THE BOUND: {names}"


def _fixed(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    spanned = len(cells) < len(widths)
    padded = [
        cell.rjust(width) if on_right and not spanned else cell.ljust(width)
        for cell, width, on_right in zip(cells, widths, right, strict=False)
    ]
    return "  ".join(padded).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


# --------------------------------------------------------------------------- files


def markdown(tables: Iterable[Table]) -> str:
    """GitHub tables, names escaped."""
    return "\n".join(_markdown(table) for table in tables if table.lines)


def _markdown(table: Table) -> str:
    grid = _grid(table, md, lambda reason, covered: [reason, *[""] * (covered - 1)])
    headers = [md(column.header) for column in table.columns]
    rule = "|" + "|".join("--:" if c.measured else ":--" for c in table.columns) + "|"
    lines = [f"| {' | '.join(texts)} |" for texts in (headers, *grid)]
    return "\n".join(
        [f"## {table.title}", "", md(table.caption), "", lines[0], rule, *lines[1:], ""]
    )


LANDSCAPE = 170
"""Characters of a line of a landscape page in \\scriptsize."""
LONGEST = 36
"""Characters of a cell, beyond which its text is broken over lines."""


def latex(tables: Iterable[Table]) -> str:
    """Tables that break over pages (longtable), wide ones in several parts; names escaped."""
    head = (
        "% \\usepackage[T1]{fontenc} \\usepackage{textcomp} \\usepackage{booktabs} \\usepackage{longtable}\n"
        "% \\usepackage[a4paper,landscape,margin=1.5cm]{geometry}\n"
    )
    return head + "\n".join(
        _latex(part) for table in tables if table.lines for part in _parts(table)
    )


def _widths(table: Table) -> list[int]:
    """Characters that each column takes, at most `LONGEST`."""
    return [
        min(
            LONGEST,
            max([len(column.header), *(len(r.cells[i].full) for r in table.lines if not r.span)]),
        )
        for i, column in enumerate(table.columns)
    ]


def _parts(table: Table) -> list[Table]:
    """The table in parts that fit the page: each has the coordinates, and columns of its own."""
    widths = _widths(table)
    leads = [i for i, column in enumerate(table.columns) if column.leads]
    room = LANDSCAPE - sum(widths[i] + 2 for i in leads)
    parts: list[list[int]] = [[]]
    used = 0
    for i in range(len(table.columns)):
        if i in leads:
            continue
        if parts[-1] and used + widths[i] + 2 > room:
            parts.append([])
            used = 0
        parts[-1].append(i)
        used += widths[i] + 2
    return [
        Table(
            table.title + (f" (part {number} of {len(parts)})" if len(parts) > 1 else ""),
            table.caption,
            tuple(table.columns[i] for i in [*leads, *part]),
            tuple(Line(tuple(r.cells[i] for i in [*leads, *part]), r.span) for r in table.lines),
        )
        for number, part in enumerate(parts, 1)
    ]


def _latex(table: Table) -> str:
    widths = _widths(table)
    first, covered = table.span_at
    room = sum(widths[first : first + covered]) + 2 * covered

    def span(reason: str, covered: int) -> list[str]:
        width = max(room, LONGEST) / 2
        return [rf"\multicolumn{{{covered}}}{{p{{{width:.0f}em}}}}{{{reason}}}"]

    align = "".join(
        rf"p{{{width / 2:.0f}em}}" if width >= LONGEST else "r" if column.measured else "l"
        for width, column in zip(widths, table.columns, strict=True)
    )
    headers = " & ".join(tex(column.header) for column in table.columns) + r" \\"
    return "\n".join(
        [
            r"{\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{longtable}}{{{align}}}",
            rf"\caption{{{tex(table.title)}: {tex(table.caption)}}}\\",
            *(r"\toprule", headers, r"\midrule", r"\endfirsthead"),
            *(r"\toprule", headers, r"\midrule", r"\endhead"),
            r"\bottomrule",
            r"\endfoot",
            *(" & ".join(texts) + r" \\" for texts in _grid(table, tex, span)),
            r"\end{longtable}}",
            "",
        ]
    )
