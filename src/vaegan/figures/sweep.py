"""What a setting does: measures against its values, in small multiples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vaegan.errors import DataError
from vaegan.figures import theme
from vaegan.figures.lettering import legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

__all__ = ["Panel", "sweep"]

SIZE = (3.7, 2.6)  # inches: width and height of one panel with its title
RATIO = 20  # positive values that reach over so much are drawn on a logarithmic axis


@dataclass(frozen=True)
class Panel:
    """Lines by name: a measure and the ends of its interval for each value of the setting, None or
    NaN where it is not known; what real images have, dashed.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float, float] | None]]
    real: float | None = None


def sweep(
    setting: str, values: Sequence[float], panels: Sequence[Panel], title: str = ""
) -> Image.Image:
    """Draw each panel's measures with their intervals over `values` (N,) of `setting`.

    A measure that is undefined at a value is left out there. Raises DataError without two values
    or any panel.
    """
    x = np.asarray(values, float)
    if len(x) < 2 or not panels:
        raise DataError("a sweep needs two values of a setting and something that was measured")
    order = np.argsort(x)
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    head = 0.45
    width, height = SIZE[0] * across + 0.1, SIZE[1] * down + head + 0.25
    with theme.style():
        figure = theme.new_figure(width, height)
        if title:
            figure.text(0.2 / width, 1 - 0.36 / height, legible(title), fontsize=13, weight="bold")
        if any(panel.real is not None for panel in panels):
            corner = (1 - 0.2 / width, 1 - 0.33 / height)
            figure.text(*corner, "dashed: real images", color=theme.MUTED, fontsize=8, ha="right")
        for place, panel in enumerate(panels):
            left = SIZE[0] * (place % across) + 0.62
            bottom = height - head - SIZE[1] * (place // across + 1) + 0.38
            box = (left / width, bottom / height, (SIZE[0] - 0.8) / width, (SIZE[1] - 1) / height)
            axes = figure.add_axes(box)
            _panel(axes, panel, x, order)
            if place + across >= len(panels):
                axes.set_xlabel(legible(setting), labelpad=2)
        return theme.render(figure)


def _panel(axes: Axes, panel: Panel, x: np.ndarray, order: np.ndarray) -> None:
    """One panel: lines, intervals, the value of real images, names in their colours above."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    theme.panel(axes, legible(panel.title))
    if panel.real is not None:
        axes.axhline(panel.real, color=theme.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    at = 0.0
    unknown = (np.nan,) * 3
    for number, (name, measured) in enumerate(panel.lines.items()):
        color = theme.class_color(number)
        rows = np.array([measured[i] or unknown for i in order], float)
        known = np.isfinite(rows[:, 0])
        places, y = x[order][known], rows[known, 0]
        ends = np.where(np.isfinite(rows[known, 1:]), rows[known, 1:], y[:, None])
        axes.plot(places, y, "o-", color=color, linewidth=1.6, markersize=4)
        axes.vlines(places, ends[:, 0], ends[:, 1], color=color, linewidth=1.0, alpha=0.6)
        written = axes.annotate(
            legible(name),
            (at, 1),
            (0, 5),
            "axes fraction",
            "offset points",
            color=color,
            fontsize=8,
        )
        at += written.get_window_extent().width / axes.get_window_extent().width + 0.06
    if x.min() > 0 and x.max() > RATIO * x.min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(np.sort(x), [f"{value:g}" for value in np.sort(x)])
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
