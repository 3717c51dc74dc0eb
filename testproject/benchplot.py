"""Draws what the benchmark at scale found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testproject.benchscale import Found

PAIRS = (
    ("first push", ("COPY | COPY", "dumpdata + loaddata")),
    ("second push", ()),
    ("export", ("dumpdata",)),
    ("import", ("loaddata",)),
    ("deleteobjects", ("root.delete()",)),
)
OURS, ANCHOR = "#3b6ea8", "#b8b8b8"


def draw(found: Found, path: Path) -> None:
    """Write a PNG: rates beside those of the anchors, and the first push's time by the number of objects."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    draw_rates(left, found)
    draw_growth(right, found)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_rates(axes: Any, found: Found) -> None:
    """Objects per second, on a scale of powers of ten."""
    rates = {name: measure.rate for name, measure in found.steps.items()}
    if {"dumpdata", "loaddata"} <= set(rates):
        rates["dumpdata + loaddata"] = 1 / (1 / rates["dumpdata"] + 1 / rates["loaddata"])
    bars = [(name, rates[name], colour) for name, colour in iter_bars() if name in rates]
    if not bars:
        axes.set_axis_off()
        return
    names, values, colours = zip(*reversed(bars), strict=True)
    shown = axes.barh(range(len(names)), values, color=colours)
    axes.bar_label(shown, [f" {value:,.0f}" for value in values])
    axes.set_yticks(range(len(names)), names)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("objects per second")
    axes.set_title("gestore_sync (blue) beside the databases' and Django's own ways")


def iter_bars() -> list[tuple[str, str]]:
    """The names of the bars, each with its colour."""
    return [bar for ours, anchors in PAIRS for bar in [(ours, OURS), *((anchor, ANCHOR) for anchor in anchors)]]


def draw_growth(axes: Any, found: Found) -> None:
    """Seconds of the first push, with a line that is exactly linear."""
    if not found.growth:
        axes.set_axis_off()
        return
    objects, seconds = list(found.growth), list(found.growth.values())
    axes.loglog(objects, seconds, "o-", color=OURS, label="first push")
    linear = [seconds[-1] * number / objects[-1] for number in objects]
    axes.loglog(objects, linear, ":", color=ANCHOR, label="linear")
    axes.set_xlabel("objects")
    axes.set_ylabel("seconds")
    axes.legend()
    axes.set_title("how the first push grows")
