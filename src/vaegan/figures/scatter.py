"""The latents of a data set on a plane: posterior means, coloured by class, beside N(0, I)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaegan.errors import DataError
from vaegan.figures import lettering, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

ACTIVE = 0.01  # nats of KL, or variance of the means, above which a latent counts as used
SIDE = 1.85  # inches: width of the column with the legend and the bars
FIELD = 5.6  # inches: side of the square field of points
LINE = 0.225  # inches: height of a line of the legend
BARS = 1.95  # inches: height of a panel of bars with its title


def scatter(
    means: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    class_names: Sequence[str] = (),
    kl: np.ndarray | None = None,
    variances: np.ndarray | None = None,
    title: str | None = None,
    prior: bool = True,
) -> "Image.Image":
    """Draw the posterior means of N images, one point each.

    Two latents are drawn as they are. More are projected on the two orthonormal directions of
    greatest variance (principal components): which latents hold something is arbitrary, so any
    fixed pair may be two empty ones. The projection is a rotation about 0, under which N(0, I), to
    which the KL draws the codes, stays itself: the rings at 1 and 2 standard deviations keep their
    meaning. In a conditional model the classes ought to lie on top of one another.

    Args:
        means: (N, d) float; with d = 1 the second axis only spreads the points.
        labels: (N,) integers >= 0, or None for unlabelled data.
        class_names: names by label; missing ones are shown by number.
        kl: (d,) mean KL divergence of each latent in nats, drawn as a panel of bars.
        variances: (d,) variance of the means of each latent over the data, drawn likewise.
        title: a bold line above.
        prior: draw the rings (False for an autoencoder, which has no KL).

    Returns: an RGB image of `theme.DENSITY` pixels an inch.

    Raises:
        DataError: shapes disagree, a label is negative, or no mean is finite.
    """
    means, labels = _check(means, labels, kl, variances)
    points, axis_names = plane(means)
    classes = [] if labels is None else np.unique(labels).tolist()
    names = {c: class_names[c] if c < len(class_names) else str(c) for c in classes}
    bars = [
        (name, np.asarray(values, float))
        for name, values in (("KL of each latent, nats", kl), ("variance of each mean", variances))
        if values is not None
    ]
    side = SIDE + 0.35 if bars or len(classes) > 1 else 0
    head = 0.55 if title else 0.2
    width, height = 0.75 + FIELD + side + 0.25, 0.6 + FIELD + head
    with theme.style():
        figure = theme.new_figure(width, height)
        axes = figure.add_axes((0.75 / width, 0.6 / height, FIELD / width, FIELD / height))
        _cloud(axes, points, labels, names, prior and means.shape[1] > 1)
        axes.set_xlabel(axis_names[0])
        axes.set_ylabel(axis_names[1])
        if title:
            top = (0.6 + FIELD + 0.22) / height
            figure.text(0.75 / width, top, lettering.legible(title), fontsize=13, weight="bold")
        for i, (name, values) in enumerate(bars):
            box = (width - 0.25 - SIDE, 0.6 + i * BARS, SIDE, BARS - 0.6)
            _bars(_axes(figure, box), name, values)
        if len(classes) > 1:
            low = 0.6 + len(bars) * BARS
            box = (width - 0.25 - SIDE, low, SIDE, 0.6 + FIELD - low)
            _legend(_axes(figure, box), names, SIDE, 0.6 + FIELD - low)
        return theme.render(figure)


def plane(means: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """(N, d) means -> (N, 2) points and the names of the two axes; see `scatter`."""
    count, dims = means.shape
    if dims == 1:
        spread = np.random.default_rng(0).uniform(-1, 1, count)
        return np.stack([means[:, 0], spread], 1), ("latent 1", "spread at random")
    if dims == 2:
        return means, ("latent 1", "latent 2")
    centred = means - means.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / count)
    axes = vectors[:, [-1, -2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])  # the sign is free: fix it
    share = values[[-1, -2]] / max(values.sum(), np.finfo(float).tiny)
    first, second = (
        f"principal direction {i + 1} · {s:.0%} of variance" for i, s in enumerate(share)
    )
    return means @ axes, (first, second)


def _cloud(
    axes: "Axes",
    points: np.ndarray,
    labels: np.ndarray | None,
    names: dict[int, str],
    prior: bool,
) -> None:
    """All points in a fixed random order, so that no class hides another."""
    centre = np.zeros(2) if prior else (points.min(0) + points.max(0)) / 2
    radius = np.abs(points - centre).max(1)
    reach = min(radius.max(), 1.15 * np.quantile(radius, 0.999)) * 1.04 or 1.0
    reach = max(reach, 2.35) if prior else reach
    axes.set(
        xlim=(centre[0] - reach, centre[0] + reach),
        ylim=(centre[1] - reach, centre[1] + reach),
        aspect="equal",
    )
    for spine in axes.spines.values():
        spine.set_visible(True)
    if prior:
        _rings(axes)

    order = np.random.default_rng(0).permutation(len(points))
    size = float(np.clip(30000 / len(points), 5, 26))
    style: dict[str, Any] = {
        "s": size,
        "alpha": 0.72 if len(points) < 4000 else 0.6,
        "linewidths": 0,
        "zorder": 3,
    }
    if labels is None:
        axes.scatter(points[order, 0], points[order, 1], color=theme.PALETTE[0], **style)
    else:
        runs = labels[order] // len(theme.PALETTE)
        for run in np.unique(runs):
            some = order[runs == run]
            colors = np.array([theme.class_color(c) for c in range(int(labels.max()) + 1)])
            marker = theme.class_marker(int(run) * len(theme.PALETTE))
            x, y = points[some].T
            axes.scatter(x, y, c=colors[labels[some]], marker=marker, **style)
        _name_clouds(axes, points, labels, names, reach)
    if hidden := int((radius > reach).sum()):
        theme.note(axes, f"{hidden} of {len(points)} points lie outside")


def _rings(axes: "Axes") -> None:
    from matplotlib.patches import Circle

    ground = {"facecolor": theme.PAPER, "edgecolor": "none", "pad": 1.2}
    axes.axhline(0, color=theme.RULE, linewidth=0.7, zorder=1)
    axes.axvline(0, color=theme.RULE, linewidth=0.7, zorder=1)
    for sigma in (1, 2):
        axes.add_patch(Circle((0, 0), sigma, fill=False, ec=theme.PAPER, lw=2.2, zorder=4))
        axes.add_patch(Circle((0, 0), sigma, fill=False, ec=theme.INK, lw=0.9, zorder=5))
        text = f"{sigma}σ of N(0, I)" if sigma == 2 else f"{sigma}σ"
        axes.text(0, sigma, text, ha="center", va="center", fontsize=7.5, zorder=6, bbox=ground)


def _name_clouds(
    axes: "Axes", points: np.ndarray, labels: np.ndarray, names: dict[int, str], reach: float
) -> None:
    """Write each class at the median of its points, where that hides neither class nor points."""
    from matplotlib.patheffects import withStroke

    spots = np.stack([np.median(points[labels == c], 0) for c in names])
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=2) + np.eye(len(spots)) * reach
    if len(names) < 2 or len(points) < 20 * len(names) or apart.min() < 0.07 * reach:
        return
    halo = [withStroke(linewidth=3, foreground=theme.PAPER)]
    for (c, name), spot in zip(names.items(), spots, strict=True):
        text = lettering.legible(name if len(name) < 14 else str(c))
        axes.text(spot[0], spot[1], text, ha="center", va="center", weight="bold", fontsize=11,
                  zorder=7, path_effects=halo)  # fmt: skip


def _legend(axes: "Axes", names: dict[int, str], width: float, height: float) -> None:
    """A column or two of markers and names; where they are too many, the first ones."""
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    rows = max(1, int(height / LINE))
    columns = min(3, -(-len(names) // rows))
    rows = min(rows, -(-len(names) // columns))
    shown = list(names.items())[: rows * columns]
    face = lettering.font(round(8.5 * theme.DENSITY / 72))
    room = int((width / columns - 0.26) * theme.DENSITY)
    for i, (c, name) in enumerate(shown):
        x, y = (i // rows) * width / columns, (i % rows + 0.5) * LINE
        text = lettering.shorten(lettering.legible(name), face, room)
        if i == len(shown) - 1 and len(names) > len(shown):
            text = f"+ {len(names) - len(shown) + 1} more"
        else:
            axes.scatter(x + 0.07, y, s=34, color=theme.class_color(c),
                         marker=theme.class_marker(c), linewidths=0)  # fmt: skip
        axes.text(x + 0.2, y, text, va="center_baseline", fontsize=8.5)


def _bars(axes: "Axes", name: str, values: np.ndarray) -> None:
    index = np.arange(1, len(values) + 1)
    used = values > ACTIVE
    axes.bar(index, values, width=0.78, color=np.where(used, theme.PALETTE[0], theme.RULE))
    axes.set_title(name, fontsize=8.5, pad=14)
    axes.text(0, 1.03, f"{used.sum()} of {len(values)} in use", transform=axes.transAxes,
              color=theme.MUTED, fontsize=7.5)  # fmt: skip
    half = max(len(values), 5) / 2 + 0.1
    axes.set_xlim((len(values) + 1) / 2 - half, (len(values) + 1) / 2 + half)
    axes.set_ylim(0, max(float(values.max(initial=0)) * 1.05, ACTIVE))
    axes.set_xticks(index if len(values) <= 10 else [1, len(values)])
    axes.tick_params(length=0, labelsize=7.5)
    axes.locator_params(axis="y", nbins=4)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)


def _axes(figure: "Figure", box: tuple[float, float, float, float]) -> "Axes":
    """Axes in a box of inches: left, bottom, width, height."""
    width, height = figure.get_size_inches()
    return figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))


def _check(
    means: np.ndarray,
    labels: np.ndarray | None,
    kl: np.ndarray | None,
    variances: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    means = np.asarray(means, float)
    if means.ndim != 2 or 0 in means.shape:
        raise DataError(f"a scatter needs means (N, d), not of shape {means.shape}; give one a row")
    for name, values in (("kl", kl), ("variances", variances)):
        if values is not None and np.shape(values) != means.shape[1:]:
            raise DataError(
                f"`{name}` of shape {np.shape(values)} does not fit {means.shape[1]} latents; "
                "give one number for each"
            )
    finite = np.isfinite(means).all(1)
    if not finite.any():
        raise DataError("no posterior mean is a finite number; the model diverged, train it again")
    if labels is None:
        return means[finite], None
    labels = np.asarray(labels)
    if labels.shape != (len(means),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"`labels` must be {len(means)} integers >= 0, one for each mean, not "
            f"{labels.dtype} of shape {labels.shape}; pass None for unlabelled data"
        )
    return means[finite], labels[finite]
