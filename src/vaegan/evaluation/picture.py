"""Doersch's figure with numbers: an image, its shifted copy and its cut copy, and who is nearer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaegan.config import ObjectiveConfig
from vaegan.errors import DataError, Unsupported
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.learned import TESTED, metric_rows, own_metric
from vaegan.evaluation.measures import metric_group, number
from vaegan.evaluation.scores import Scores
from vaegan.figures import theme
from vaegan.metrics import ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

__all__ = ["learned_metric"]

BLOCKS = 2  # columns of examples
TILE, LINE, PANEL = 0.92, 0.17, 5.7  # inches: an image, a line below it, the width of the shares
COLUMNS = (1.2, 1.45)  # where the numbers end beside the shares, in widths of their axes
NAMES = ("pixels", "D, untrained", "D, trained", "judge")
PANELS = (
    ("shift_1", "Shift by 1 px, cut 7 x 7: share of {:,.0f} pairs ranked right"),
    ("shift_half_strict", "Half a pixel, cuts 3 and 5: share of {:,.0f} that pixels rank wrong"),
)


def learned_metric(
    bench: Bench, scores: Scores, objective: ObjectiveConfig, examples: int = 8
) -> Image.Image:
    """Examples at the left, the shares of `measure_metric` at the right.

    The examples are the first pairs of the test at 1 px that pixels rank wrong. Below each copy
    stand its distances from the original, over that of the shifted copy, by pixels, by the
    similarity of the discriminator before and after training, and by the judge's features; the
    nearer copy's are bold. scores: what `evaluate` found for the same bench. Unsupported without a
    discriminator, DataError without such a pair.
    """
    model = bench.model
    if model.discriminator is None:
        raise Unsupported(f"system {model.config.system!r} has no discriminator to learn a metric")
    rows, (size,) = metric_rows(bench), TESTED["shift_1"]
    pixels = bench.real.pixels[rows]
    copies = [ranking.shifted(pixels), ranking.cut(pixels, size, bench.seed)]
    far, near = (ranking.squared_error(copy, pixels) for copy in copies)
    chosen = np.flatnonzero(near < far)[:examples]
    if not len(chosen):
        raise DataError("in no pair of images do pixels find the cut copy nearer")
    ratios = [np.sqrt(near[chosen] / far[chosen])]
    untrained, trained = (own_metric(bench, rows, objective, seed) for seed in (0, None))
    for features in (
        lambda x: untrained.features(x)[-1],
        lambda x: trained.features(x)[-1],
        bench.judge.features,
    ):
        ratios.append(ratio(features, pixels, copies)[chosen])
    images = np.stack([pixels[chosen], *(copy[chosen] for copy in copies)], axis=1)
    return drawn(images, np.stack(ratios, axis=1), size, scores)


def ratio(
    features: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, copies: Sequence[np.ndarray]
) -> np.ndarray:
    """Distance of the second copy from the original over that of the first (N,)."""
    reference = features(pixels).astype(float)
    first, second = (np.linalg.norm(features(copy) - reference, axis=1) for copy in copies)
    with np.errstate(divide="ignore", invalid="ignore"):
        return second / first


def drawn(images: np.ndarray, ratios: np.ndarray, size: int, scores: Scores) -> Image.Image:
    """The page: images (N, 3, H, W, C), ratios (N, 4) of cut over shifted by each of `NAMES`."""
    depths = scores.about.get("metric_depths", ())
    across, down = 3 * TILE + 0.95, TILE + len(NAMES) * LINE + 0.25
    left = BLOCKS * across + 0.2
    width, top = left + PANEL, 1.0
    height = top + max(-(-len(images) // BLOCKS) * down, 2 * (0.75 + 0.24 * (len(depths) + 3)))
    with theme.style():
        figure = theme.new_figure(width, height)

        def place(x: float, y: float, wide: float, high: float) -> Axes:
            box = (x / width, 1 - (y + high) / height, wide / width, high / height)
            return figure.add_axes(box)

        x = 0.25 / width
        figure.text(x, 1 - 0.3 / height, "Which copy is nearer?", size=14, weight="bold")
        explained = (
            "Below each copy: its distance from the original over that of the shifted copy. "
            "The nearer copy's is bold; people choose the shifted one."
        )
        figure.text(x, 1 - 0.53 / height, explained, color=theme.MUTED)
        heads = ("original", "shifted by 1 px", f"cut {size} x {size}")
        for i, (three, numbers) in enumerate(zip(images, ratios)):
            row, block = divmod(i, BLOCKS)
            for k, (image, head) in enumerate(zip(three, heads)):
                x = 0.25 + block * across + k * (TILE + 0.1)
                axes = place(x, top + row * down, TILE, TILE)
                show(axes, image)
                if row == 0:
                    axes.set_title(head, size=8.5, weight="normal", loc="center", pad=4)
                for line, (name, value) in enumerate(zip(NAMES, numbers)):
                    write(axes, k, (line + 0.7) * LINE / TILE, name, value)
        high = (height - top) / len(PANELS)
        for i, (variant, title) in enumerate(PANELS):
            pairs = scores.values[f"metric_pairs_{variant}"]
            y = top + i * high
            at = (left / width, 1 - (y + 0.05) / height)
            figure.text(*at, title.format(pairs), size=9.5, weight="bold")
            axes = place(left + 1.75, y + 0.35, PANEL - 3.1, high - 0.7)
            shares(axes, scores.values, depths, variant)
        return theme.render(figure)


def show(axes: Axes, image: np.ndarray) -> None:
    """One image, grey as dark ink on white."""
    axes.set_axis_off()
    grey = image.shape[2] == 1
    axes.imshow(255 - image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=255)


def write(axes: Axes, column: int, below: float, name: str, ratio: float) -> None:
    """A line below an image: the name below the original, a distance below a copy."""
    own, other = (1.0, ratio) if column == 1 else (ratio, 1.0)
    nearer = column > 0 and own < other
    axes.text(
        1.0 if column == 0 else 0.5,
        -below,
        name if column == 0 else f"{own:.2f}",
        transform=axes.transAxes,
        ha="right" if column == 0 else "center",
        va="center",
        size=8,
        weight="bold" if nearer else "normal",
        color=theme.INK if nearer else theme.MUTED,
    )


def shares(axes: Axes, values: Mapping[str, float], depths: Sequence[str], variant: str) -> None:
    """The shares of one variant: a dot for each metric, a ring for its control before training."""
    names: list[str] = []
    for x, head in zip(COLUMNS, ("trained", "untrained")):
        axes.text(x, 1.03, head, transform=axes.transAxes, size=8, ha="right", color=theme.MUTED)
    for row in metric_group(depths).rows:
        if row.name == "metric_pairs":
            continue
        control = row.name.startswith("metric_untrained")  # belongs to the row above
        if not control:
            names.append(row.words)
        value, y = values[f"{row.name}_{variant}"], len(names) - 1
        color = theme.ACCENT if row.aim else theme.MUTED
        own = row.name in ("metric_pixels", "metric_judge")  # neither trained with D nor a control
        axes.plot(value, y, "o", ms=7, mew=1.3, mec=color, mfc="none" if control else color)
        axes.text(
            sum(COLUMNS) / 2 if own else COLUMNS[control],
            y,
            "–" if np.isnan(value) else number(value, 3),
            transform=axes.get_yaxis_transform(),
            va="center",
            ha="right",
            size=8,
            color=theme.INK,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.04, 1.04)
    axes.grid(True)
    axes.tick_params(length=0)
