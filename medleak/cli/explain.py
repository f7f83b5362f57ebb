"""``medleak explain``: a row in words."""

from __future__ import annotations

from argparse import Namespace


def main(arguments: Namespace) -> int:
    from medleak import report
    from medleak.results.saved import find_row

    print(report.explain(find_row(arguments.row, arguments.out)))
    return 0
