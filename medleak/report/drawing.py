"""How every plot looks, and how figures become files.

Figures are drawn without pyplot, so that nothing global changes, and saved without dates, so that
the same rows give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medleak.api import Estimate
from medleak.report import formatting
from medleak.results.aggregate import Aggregate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#26303a", "#75808a", "#dfe3e6"
# Okabe and Ito's palette, darkened until thin lines read on white; safe for the colour-blind.
DEFENSES = (
    "#4a4f57", "#c8641b", "#1f6fb2", "#0f8a6a", "#a8548c", "#8a7a14", "#4aa3d8", "#7a4b2a",
    "#c2456b", "#6a4fa3", "#5b6f1e", "#0b6f7c", "#d9a21b", "#9a9fa6", "#d98a9e", "#8fb339",
)  # fmt: skip
ATTACKS = ("#1b4f72", "#d1662a", "#2f8f6b", "#9b5aa5", "#b8992a", "#5c6670", "#c2456b", "#3aa0c4")
AGES = ("fresh model", "trained model")
"""Kinds of record whose marks stand side by side; the first is hollow."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "p", "<", ">", "h", "d", "8")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    # Names are printed as they are: a dollar sign in one must not start a formula.
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "medleak",
    "pdf.fonttype": 42,
}


def saved(draw: Any, aggregates: Sequence[Aggregate], forms: Sequence[str]) -> dict[str, bytes]:
    """What `draw` makes of `aggregates`, in the style of every plot, as {form: bytes}."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = draw(aggregates)
        # Laid out once for all forms: layout is most of the time that a figure takes.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return {form: _bytes(figure, form) for form in forms}


def _bytes(figure: Figure, form: str) -> bytes:
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    (FigureCanvasSVG if form == "svg" else FigureCanvasPdf)(figure)
    buffer = io.BytesIO()
    undated = {"Date": None} if form == "svg" else {"CreationDate": None}
    figure.savefig(buffer, format=form, metadata=undated)
    if form == "pdf":
        return buffer.getvalue()
    return re.sub(rb' d="[^"]*"', _rounded, buffer.getvalue())


def _rounded(path: re.Match[bytes]) -> bytes:
    """Hundredths of a point are finer than any screen, and halve the page."""
    return re.sub(rb"(\.\d\d)\d+", rb"\1", path[0])


def colours(names: Sequence[str], palette: Sequence[str]) -> dict[str, str]:
    """A colour per name, in order of appearance."""
    return {name: palette[i % len(palette)] for i, name in enumerate(dict.fromkeys(names))}


def subject(aggregates: Sequence[Aggregate]) -> str:
    """The target, and whether it is simulated: a plot is shown without its page."""
    first = aggregates[0]
    return f"{first.target} – {formatting.SIMULATED}" if first.row.simulated else first.target


def kinds(aggregates: Sequence[Aggregate]) -> list[tuple[str, str]]:
    """(kind of record, unit), natural records first."""
    pairs = dict.fromkeys((one.row.records, one.row.unit) for one in aggregates)
    return sorted(pairs, key=lambda pair: pair[0] != "natural")


def useful(one: Aggregate) -> float | None:
    """The main utility of one aggregate."""
    estimate = one.utility.get(formatting.main_utility(one.utility) or "")
    return estimate.value if isinstance(estimate, Estimate) else None
