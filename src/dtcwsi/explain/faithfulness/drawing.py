"""The deletion and insertion curves as a figure."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dtcwsi.explain.faithfulness.curves import SHARES, Curve
from dtcwsi.explain.faithfulness.maps import MAPS
from dtcwsi.explain.faithfulness.measure import SlideScores
from dtcwsi.explain.faithfulness.table import RANDOM
from dtcwsi.metrics import patient_draws

__all__ = ["draw_curves"]

# Okabe and Ito's colours, told apart by colour-blind eyes; dashes tell the lines apart in grey print.
_LINES = {
    "attention": ("#0072b2", "-"),
    "importance": ("#d55e00", "--"),
    "both": ("#009e73", "-."),
    RANDOM: ("#6b7280", ":"),
}
_TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_DRAWS = 500
_NOTE = "Of the class predicted for the whole slide; means over slides, bands of 95 % over patients."


def draw_curves(slides: Sequence[SlideScores], patients: Sequence[str], title: str) -> dict[str, bytes]:
    """Draw the mean curves of every map and of random orders, with bands of 95 % over patients.

    Left patches are taken away, right they are added; above the probability of the predicted class, below its margin.
    Returns: the figure as ``svg`` (words are text) and as ``png`` of 300 dpi.
    """
    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "dtcwsi",
            "font.size": 9,
            "axes.grid": True,
            "grid.color": "#e5e7eb",
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        for column, (way, words) in enumerate((("deletion", "taken away"), ("insertion", "added"))):
            _panel(axes[0, column], slides, patients, way, "probability")
            _panel(axes[1, column], slides, patients, way, "margin")
            axes[0, column].set_title(way.capitalize(), loc="left", fontsize=10, fontweight="bold")
            axes[1, column].set_xlabel(f"share of patches {words} from the top (root scale)")
        axes[0, 0].set_ylabel("probability")
        axes[1, 0].set_ylabel("margin, logits")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        legend = figure.legend(
            handles, labels, loc="outside lower left", ncols=len(labels), frameon=False, title=_NOTE, alignment="left"
        )
        legend.get_title().set_fontsize(8)
        return {kind: _saved(figure, kind) for kind in ("svg", "png")}


def _panel(axes: Axes, slides: Sequence[SlideScores], patients: Sequence[str], way: str, unit: str) -> None:
    for name in (*MAPS, RANDOM):
        curves = [
            slide.random if name == RANDOM else slide.maps[name].curves
            for slide in slides
            if name == RANDOM or name in slide.maps
        ]
        if not curves:
            continue
        each = np.stack([_values(getattr(curve, way), unit) for curve in curves])
        colour, dashes = _LINES[name]
        axes.plot(SHARES, each.mean(axis=0), dashes, color=colour, linewidth=1.6, label=_told(name), zorder=3)
        if len(each) == len(slides) and len(set(patients)) > 1:
            low, high = _band(each, patients)
            axes.fill_between(SHARES, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("function", functions=(np.sqrt, np.square))
    axes.set_xlim(0, 1)
    axes.set_xticks(_TICKS, [f"{share:.0%}" for share in _TICKS])
    if unit == "probability":
        axes.set_ylim(0, 1.02)
    else:
        axes.axhline(0, color="#9ca3af", linewidth=0.8)


def _told(name: str) -> str:
    return {"both": "attention and importance", RANDOM: "random order"}.get(name, name)


def _values(curve: Curve, unit: str) -> NDArray[np.float64]:
    return curve.probability if unit == "probability" else curve.margin


def _band(each: NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.float64]:
    weights = np.concatenate(list(patient_draws(patients, _DRAWS, 0)))
    means = weights @ each / weights.sum(axis=1, keepdims=True)
    return np.asarray(np.percentile(means, [2.5, 97.5], axis=0))


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=300, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
