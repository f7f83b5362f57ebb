"""``medleak explain``: a row in words."""

from __future__ import annotations

from argparse import Namespace


def main(arguments: Namespace) -> int:
    from medleak import grid, report

    print(report.explain(grid.find_row(arguments.row, arguments.out)))
    return 0
