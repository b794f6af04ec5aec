"""Pictures of results, in the house style: ratios with their intervals, and growth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaegan.figures import theme
from vaegan.figures.output import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

__all__ = ["draw"]

SPAN = 12.0
"""The least ratio of the largest to the smallest value on an axis."""

RACES = ("tutorial", "training")


def draw(trees: list[dict[str, Any]], folder: Path) -> None:
    """Write ratios.png and growth.png into the folder, as far as there is something to draw."""
    found = {tree["name"]: tree for tree in trees}
    contests = [contest for name in RACES if name in found for contest in found[name]["contests"]]
    if contests:
        save(ratios(contests), folder / "ratios.png")
    if "growth" in found:
        save(growth(found["growth"]["grids"]), folder / "growth.png")


def ratios(contests: list[dict[str, Any]]) -> Image.Image:
    """Every contender's speed in units of its base: a bar, and the interval across its end."""
    height = sum(len(contest["contenders"]) for contest in contests) * 0.3 + 0.75 * len(contests)
    with theme.style():
        figure = theme.new_figure(7, height + 0.3)
        sizes = [len(contest["contenders"]) for contest in contests]
        panels = figure.subplots(
            len(contests), 1, height_ratios=sizes, squeeze=False, sharex=True
        ).ravel()
        for axes, contest in zip(panels, contests):
            _bars(axes, contest)
        panels[-1].set_xlabel("times the speed of the first row")
        figure.tight_layout()
        return theme.render(figure)


def _bars(axes: Axes, contest: dict[str, Any]) -> None:
    """One contest."""
    names = list(contest["contenders"])
    times = [contest["contenders"][name]["times_base"] for name in names]
    values = [one["value"] for one in times]
    ends = [
        [one["value"] - one["low"] for one in times],
        [one["high"] - one["value"] for one in times],
    ]
    ours = [name.startswith("vaegan") for name in names]
    colors = [theme.ACCENT if own else theme.RULE for own in ours]
    axes.barh(names, values, color=colors, height=0.6)
    axes.errorbar(values, names, xerr=ends, fmt="none", ecolor=theme.INK, elinewidth=1)
    for name, value, end in zip(names, values, ends[1]):
        axes.annotate(f"{value:.2f}", (value + end, name), (4, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.invert_yaxis()
    axes.set_title(contest["title"])
    axes.tick_params(length=0)
    axes.grid(axis="x")


def growth(grids: list[dict[str, Any]]) -> Image.Image:
    """Seconds a step above, memory below, along every axis; both axes logarithmic."""
    from matplotlib.ticker import LogLocator, NullLocator

    with theme.style():
        figure = theme.new_figure(2.6 * len(grids) + 0.4, 4.6)
        panels = figure.subplots(2, len(grids), squeeze=False)
        for column, grid in enumerate(grids):
            values, seconds, peak, private, _ = zip(*grid["rows"])
            above, below = panels[0][column], panels[1][column]
            above.plot(values, seconds, "o-", color=theme.ACCENT, markersize=4)
            above.set_title(grid["title"].removeprefix("Growth with ").replace("_", " "))
            if None not in peak:
                below.plot(values, peak, "o-", color=theme.INK, markersize=4, label="peak")
                below.plot(values, private, "o-", color=theme.MUTED, markersize=3, label="private")
            for axes in (above, below):
                axes.set_xscale("log")
                axes.set_yscale("log")
                axes.set_xticks(values, [_short(value) for value in values])
                low, high = axes.get_ylim()
                wider = max(1.0, SPAN / (high / low)) ** 0.5  # noise must not look like growth
                axes.set_ylim(low / wider, high * wider)
                axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
                for axis in (axes.xaxis, axes.yaxis):
                    axis.set_minor_locator(NullLocator())
                axes.grid(axis="y")
        panels[0][0].set_ylabel("seconds a step")
        panels[1][0].set_ylabel("memory, MB")
        panels[1][0].legend(frameon=False, fontsize=8)
        figure.tight_layout()
        return theme.render(figure)


def _short(value: float) -> str:
    """10000 -> "10k", a million -> "1M"; small numbers as they are."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
