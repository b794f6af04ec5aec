"""The transfer scorecard: does an image decoded under another label get that label, and keep its
style?

Arrays in. N sources (x, y); M transferred images x' = decode(mean(x, y), y'), each with its target
label y' and the index of its source. For every cell (y, y') of the K x K table: the share that the
judge reads as y', and for each measure of style, over the pairs (source, transferred) in the cell,

    r      Pearson correlation: is the order of the sources kept?
    slope  of transferred on source: is the amplitude kept? (a nearly constant output may correlate)
    bias   mean of transferred minus source, both counted from the mean of real images of their own
           class where classes differ (slant, width)

    thickness  raw, in pixels
    slant      minus the class mean, in radians
    width      minus the class mean, over the class standard deviation

Style under transfer is the mean over the cells with y' != y; the diagonal is the same-label
reconstruction, this model's ceiling, and the sources shuffled within each cell are the floor.
Where strokes make no sense, `features_kept` asks the same of the features of an encoder that is
independent of the model. Intervals: the sources are drawn again and again (bootstrap) and all that
was made of a source is drawn with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vaegan.errors import DataError
from vaegan.metrics.bootstrap import Interval, normal_interval, resampled
from vaegan.metrics.morphometrics import Morphometrics

__all__ = [
    "StyleKept",
    "TransferScorecard",
    "features_kept",
    "score_transfer",
    "share_by_cell",
    "shuffled_within",
    "style_kept",
]

STYLES = ("thickness", "slant", "width")
MIN_PAIRS = 5
RESAMPLES = 200  # of the sources: enough for a standard error


@dataclass(frozen=True)
class StyleKept:
    """How one measure of style survives, by cell; float64 (K, K), rows sources, columns targets.

    A cell has NaN where the number is undefined: r with fewer than 5 pairs or a constant side
    (all transferred images alike), slope with constant sources, all of them without pairs.
    retrieval: how often a transferred image is nearer to its own source than to another source of
    the cell, chance 0.5; only for features, else None. count: pairs with both sides measurable.
    drawn: the same tables, by name, for other draws of the sources (R, K, K).
    """

    r: np.ndarray
    slope: np.ndarray
    bias: np.ndarray
    count: np.ndarray
    retrieval: np.ndarray | None = None
    drawn: dict[str, np.ndarray] = field(default_factory=dict)

    def mean(self, same: bool = False) -> dict[str, float]:
        """Means over the cells with another target (or the same): r, slope, bias, abs_bias (and
        retrieval), NaN cells left out; cells: those with pairs, undefined: those without an r.
        """
        chosen = self._chosen(same)
        tables = {"r": self.r, "slope": self.slope, "bias": self.bias}
        if self.retrieval is not None:
            tables["retrieval"] = self.retrieval
        means = {name: float(each[0]) for name, each in _averages(tables, chosen).items()}
        undefined = int((chosen & ~np.isfinite(self.r)).sum())
        return means | {"cells": int(chosen.sum()), "undefined": undefined}

    def intervals(self, same: bool = False) -> dict[str, Interval]:
        """95 % intervals of the means, over sources: 1.96 bootstrap standard errors either way."""
        averages = _averages(self.drawn, self._chosen(same))
        means, count = self.mean(same), int(self.count[self._chosen(same)].sum())
        return {
            name: normal_interval(means[name], float(each[np.isfinite(each)].std()), count)
            for name, each in averages.items()
            if np.isfinite(each).sum() > 1
        }

    def _chosen(self, same: bool) -> np.ndarray:
        """The cells that count."""
        return (np.eye(len(self.r), dtype=bool) == same) & (self.count > 0)


def _averages(tables: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """The mean of each table (K, K) or (R, K, K) over the chosen cells, (R,); abs_bias as well."""
    if "bias" in tables:
        tables = tables | {"abs_bias": np.abs(tables["bias"])}
    found = {}
    for name, table in tables.items():
        values = table.reshape(-1, *chosen.shape)[:, chosen]
        known = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            found[name] = np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
    return found


@dataclass(frozen=True)
class TransferScorecard:
    """What `score_transfer` found.

    styles, shuffled: thickness, slant, width, for the pairs and for sources shuffled in each cell.
    blank: number of transferred images without any stroke.
    """

    styles: dict[str, StyleKept]
    shuffled: dict[str, StyleKept]
    blank: int


def score_transfer(
    sources: Morphometrics,
    source_labels: np.ndarray,
    transferred: Morphometrics,
    target_labels: np.ndarray,
    origin: np.ndarray | None = None,
    *,
    num_classes: int,
    seed: int = 0,
) -> TransferScorecard:
    """The scorecard of M transferred images of N sources, all measured from uint8 pixels.

    source_labels (N,), target_labels (M,): 0 .. num_classes - 1. origin (M,): the source of each
    transferred image, by default the one at the same place. Class means and deviations are those of
    the sources. Raises DataError where lengths or labels do not fit.
    """
    origin = np.arange(len(target_labels)) if origin is None else origin
    _check(len(sources), source_labels, len(transferred), target_labels, origin, num_classes)
    cell = source_labels[origin] * num_classes + target_labels
    shuffle = shuffled_within(cell, np.random.default_rng(seed))
    draws = resampled(len(sources), RESAMPLES, seed)

    styles: dict[str, StyleKept] = {}
    shuffled: dict[str, StyleKept] = {}
    for style in STYLES:
        mean, deviation = _class_statistics(getattr(sources, style), source_labels, num_classes)
        if style == "thickness":
            mean = np.zeros(num_classes)
        if style != "width":
            deviation = np.ones(num_classes)
        for table, rows in ((styles, origin), (shuffled, origin[shuffle])):
            table[style] = style_kept(
                getattr(sources, style)[rows],
                getattr(transferred, style),
                source_labels[origin],
                target_labels,
                class_mean=mean,
                class_deviation=deviation,
                draws=draws[:, rows],
            )
    return TransferScorecard(styles, shuffled, int(transferred.blank.sum()))


def style_kept(
    source: np.ndarray,
    transferred: np.ndarray,
    source_labels: np.ndarray,
    target_labels: np.ndarray,
    *,
    class_mean: np.ndarray,
    class_deviation: np.ndarray,
    draws: np.ndarray | None = None,
) -> StyleKept:
    """How one measure of style survives: pairs (M,) of source and transferred values by cell.

    class_mean, class_deviation (K,): what the values of each class are counted from and in. Pairs
    with a NaN are left out. draws (R, M): how often each pair is drawn in R other samples.
    """
    k = len(class_mean)
    usable = np.flatnonzero(np.isfinite(source) & np.isfinite(transferred))
    cell = source_labels[usable] * k + target_labels[usable]
    order = np.argsort(cell, kind="stable")
    usable, cell = usable[order], cell[order]
    cells, starts, place, count = np.unique(
        cell, return_index=True, return_inverse=True, return_counts=True
    )
    mean_x, mean_y = (np.bincount(place, v[usable]) / count for v in (source, transferred))
    x, y = source[usable] - mean_x[place], transferred[usable] - mean_y[place]
    scale_x, scale_y = class_deviation[cells // k], class_deviation[cells % k]

    def tables(weights: np.ndarray) -> dict[str, np.ndarray]:
        """r, slope, bias (R, K, K) of pairs that count as often as `weights` (R, M') say."""

        def total(values: np.ndarray | float) -> np.ndarray:
            return np.add.reduceat(weights * values, starts, axis=1)

        with np.errstate(invalid="ignore", divide="ignore"):
            n = total(1.0)
            dx, dy = total(x) / n, total(y) / n
            xx, yy = total(x * x) - n * dx**2, total(y * y) - n * dy**2
            xy = total(x * y) - n * dx * dy
            bias = (mean_y + dy - class_mean[cells % k]) / scale_y
            bias = bias - (mean_x + dx - class_mean[cells // k]) / scale_x
            # A spread that is all rounding error is none
            moves_x = xx > 1e-12 * n * (1 + mean_x**2)
            moves_y = yy > 1e-12 * n * (1 + mean_y**2)
            enough = count >= MIN_PAIRS
            r = np.where(moves_x & moves_y & enough, xy / np.sqrt(xx * yy), np.nan)
            slope = np.where(moves_x & enough, xy / xx * scale_x / scale_y, np.nan)
        found = {}
        for name, values in (("r", r.clip(-1, 1)), ("slope", slope), ("bias", bias)):
            full = np.full((len(weights), k * k), np.nan)
            full[:, cells] = np.where(np.isfinite(values), values, np.nan)
            found[name] = full.reshape(-1, k, k)
        return found

    every = np.zeros(k * k, dtype=np.int64)
    every[cells] = count
    own = {name: table[0] for name, table in tables(np.ones((1, len(usable)))).items()}
    drawn = {} if draws is None else tables(draws[:, usable])
    return StyleKept(**own, count=every.reshape(k, k), drawn=drawn)


def features_kept(
    sources: np.ndarray,
    source_labels: np.ndarray,
    transferred: np.ndarray,
    target_labels: np.ndarray,
    origin: np.ndarray | None = None,
    *,
    num_classes: int,
    seed: int = 0,
) -> StyleKept:
    """How style survives in the features of an independent encoder, (N, F) and (M, F).

    In every cell both sides are counted from their own mean, which takes the class away. r is
    tr Cov(s, t) / sqrt(tr Var(s) tr Var(t)), slope tr Cov(s, t) / tr Var(s): for F = 1 the usual
    ones. bias is the length of the difference of the means over the root of tr Var(s); it includes
    the difference between the classes. Arguments as in `score_transfer`.
    """
    origin = np.arange(len(target_labels)) if origin is None else origin
    _check(len(sources), source_labels, len(transferred), target_labels, origin, num_classes)
    labels = source_labels[origin]
    draws = np.vstack([np.ones((1, len(sources))), resampled(len(sources), RESAMPLES, seed)])
    names, shape = ("r", "slope", "bias", "retrieval"), (len(draws), num_classes, num_classes)
    tables = {name: np.full(shape, np.nan) for name in names}
    count = np.zeros((num_classes, num_classes), dtype=np.int64)
    for y, z in np.unique(np.stack([labels, target_labels], axis=1), axis=0):
        rows = np.flatnonzero((labels == y) & (target_labels == z))
        count[y, z] = len(rows)
        if len(rows) >= MIN_PAIRS:
            s, t = sources[origin[rows]].astype(float), transferred[rows].astype(float)
            found = _features_of_cell(s, t, draws[:, origin[rows]])
            for name, values in zip(names, found):
                tables[name][:, y, z] = values
    own = {name: table[0] for name, table in tables.items()}
    return StyleKept(**own, count=count, drawn={name: table[1:] for name, table in tables.items()})


def _features_of_cell(s: np.ndarray, t: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """r, slope, bias and retrieval (R,) of one cell, features (n, F), weights (R, n)."""
    gap = t.mean(axis=0) - s.mean(axis=0)
    s, t = s - s.mean(axis=0), t - t.mean(axis=0)
    squared = np.square(s).sum(axis=1) - 2 * t @ s.T  # |t|^2 is the same for every source
    own = np.diag(squared)[:, None]
    wins = (squared > own) + 0.5 * (squared == own)
    np.fill_diagonal(wins, 0)

    with np.errstate(invalid="ignore", divide="ignore"):
        n = weights.sum(axis=1)
        mean_s, mean_t = weights @ s / n[:, None], weights @ t / n[:, None]

        ss, tt, st = (
            weights @ (a * b).sum(axis=1) - n * (mean_a * mean_b).sum(axis=1)
            for a, b, mean_a, mean_b in (
                (s, s, mean_s, mean_s),
                (t, t, mean_t, mean_t),
                (s, t, mean_s, mean_t),
            )
        )
        moves_s, moves_t = ss > 1e-12 * n, tt > 1e-12 * n
        bias = np.linalg.norm(gap + mean_t - mean_s, axis=1) / np.sqrt(ss / n)
        retrieval = (weights @ wins * weights).sum(axis=1) / (n**2 - np.square(weights).sum(axis=1))
        return [
            np.where(moves_s & moves_t, st / np.sqrt(ss * tt), np.nan),
            np.where(moves_s, st / ss, np.nan),
            np.where(moves_s, bias, np.nan),
            np.where(moves_s & moves_t, retrieval, np.nan),
        ]


def _class_statistics(
    values: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each class (K,), NaN without images; NaN values left out."""
    usable = np.isfinite(values)
    labels, values = labels[usable], values[usable]
    with np.errstate(invalid="ignore", divide="ignore"):
        count = np.bincount(labels, minlength=num_classes)
        mean = np.bincount(labels, values, minlength=num_classes) / count
        spread = np.bincount(labels, (values - mean[labels]) ** 2, minlength=num_classes) / count
    return mean, np.sqrt(spread)


def share_by_cell(
    hits: np.ndarray, rows: np.ndarray, columns: np.ndarray, num_classes: int
) -> np.ndarray:
    """Share of hits in each cell of source and target (K, K), NaN where there is none."""
    cell, size = rows * num_classes + columns, num_classes * num_classes
    with np.errstate(invalid="ignore"):
        share = np.bincount(cell, hits, minlength=size) / np.bincount(cell, minlength=size)
    return share.reshape(num_classes, num_classes)


def shuffled_within(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A permutation (M,) that leaves each row in its group."""
    chance = random.random(len(groups))
    rows = np.empty(len(groups), dtype=np.int64)
    rows[np.argsort(groups, kind="stable")] = np.lexsort((chance, groups))
    return rows


def _check(
    n: int,
    source_labels: np.ndarray,
    m: int,
    target_labels: np.ndarray,
    origin: np.ndarray,
    num_classes: int,
) -> None:
    """Raise DataError unless the lengths fit and every index is in range."""
    if len(source_labels) != n or len(target_labels) != m or len(origin) != m:
        raise DataError(
            f"{n} sources need as many labels (got {len(source_labels)}), {m} transferred images "
            f"as many target labels (got {len(target_labels)}) and origins (got {len(origin)})"
        )
    for name, values, stop in (
        ("source_labels", source_labels, num_classes),
        ("target_labels", target_labels, num_classes),
        ("origin", origin, n),
    ):
        if len(values) and not (values.min() >= 0 and values.max() < stop):
            raise DataError(
                f"{name} must be in 0 .. {stop - 1}, got {values.min()} .. {values.max()}"
            )
