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
independent of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaegan.errors import DataError
from vaegan.metrics.morphometrics import Morphometrics, measure

__all__ = ["StyleKept", "TransferScorecard", "features_kept", "score_transfer", "style_kept"]

STYLES = ("thickness", "slant", "width")
MIN_PAIRS = 5


@dataclass(frozen=True)
class StyleKept:
    """How one measure of style survives, by cell; float64 (K, K), rows sources, columns targets.

    A cell has NaN where the number is undefined: r with fewer than 5 pairs or a constant side
    (all transferred images alike), slope with constant sources, all of them without pairs.
    retrieval: how often a transferred image is nearer to its own source than to another source of
    the cell, chance 0.5; only for features, else None. count: pairs with both sides measurable.
    """

    r: np.ndarray
    slope: np.ndarray
    bias: np.ndarray
    count: np.ndarray
    retrieval: np.ndarray | None = None

    def mean(self, same: bool = False) -> dict[str, float]:
        """Means over the cells with another target (or the same): r, slope, bias, abs_bias (and
        retrieval), NaN cells left out; cells: those with pairs, undefined: those without an r.
        """
        chosen = (np.eye(len(self.r), dtype=bool) == same) & (self.count > 0)

        def average(table: np.ndarray) -> float:
            values = table[chosen & np.isfinite(table)]
            return float(values.mean()) if len(values) else float("nan")

        means = {
            "r": average(self.r),
            "slope": average(self.slope),
            "bias": average(self.bias),
            "abs_bias": average(np.abs(self.bias)),
        }
        if self.retrieval is not None:
            means["retrieval"] = average(self.retrieval)
        undefined = int((chosen & ~np.isfinite(self.r)).sum())
        return means | {"cells": int(chosen.sum()), "undefined": undefined}


@dataclass(frozen=True)
class TransferScorecard:
    """What `score_transfer` found.

    accuracy: share judged as the target (K, K), NaN without images, None without a judge.
    styles, shuffled: thickness, slant, width, for the pairs and for sources shuffled in each cell.
    blank: number of transferred images without any stroke.
    """

    accuracy: np.ndarray | None
    styles: dict[str, StyleKept]
    shuffled: dict[str, StyleKept]
    blank: int

    def summary(self) -> dict[str, float]:
        """One flat dictionary: {transfer,same,shuffled}_{style}_{r,slope,bias,...}, and
        {transfer,same}_accuracy where there is a judge.
        """
        found: dict[str, float] = {"transfer_blank": self.blank}
        if self.accuracy is not None:
            for name, chosen in (
                ("transfer", ~np.eye(len(self.accuracy), dtype=bool)),
                ("same", np.eye(len(self.accuracy), dtype=bool)),
            ):
                values = self.accuracy[chosen & np.isfinite(self.accuracy)]
                found[f"{name}_accuracy"] = float(values.mean()) if len(values) else float("nan")
        for style, kept in self.styles.items():
            for name, means in (
                ("transfer", kept.mean()),
                ("same", kept.mean(same=True)),
                ("shuffled", self.shuffled[style].mean()),
            ):
                found |= {f"{name}_{style}_{key}": value for key, value in means.items()}
        return found


def score_transfer(
    sources: np.ndarray | Morphometrics,
    source_labels: np.ndarray,
    transferred: np.ndarray | Morphometrics,
    target_labels: np.ndarray,
    origin: np.ndarray | None = None,
    *,
    num_classes: int,
    judged: np.ndarray | None = None,
    reference: tuple[Morphometrics, np.ndarray] | None = None,
    seed: int = 0,
) -> TransferScorecard:
    """The scorecard of M transferred images of N sources.

    sources, transferred: uint8 pixels (N, H, W, C), (M, H, W, C), or their morphometrics, measured
    before; transferred images of all models must have gone through uint8, as here.
    source_labels (N,), target_labels (M,): 0 .. num_classes - 1. origin (M,): the source of each
    transferred image, by default the one at the same place. judged (M,): the labels that the judge
    read in `transferred`. reference: measures and labels of real images for the class means and
    deviations, by default the sources. Raises DataError where lengths or labels do not fit.
    """
    origin = np.arange(len(target_labels)) if origin is None else origin
    _check(len(sources), source_labels, len(transferred), target_labels, origin, num_classes)
    source = sources if isinstance(sources, Morphometrics) else measure(sources)
    result = transferred if isinstance(transferred, Morphometrics) else measure(transferred)
    real, real_labels = (source, source_labels) if reference is None else reference
    shuffle = _shuffled_within(source_labels[origin] * num_classes + target_labels, seed)

    styles: dict[str, StyleKept] = {}
    shuffled: dict[str, StyleKept] = {}
    for style in STYLES:
        mean, deviation = _class_statistics(getattr(real, style), real_labels, num_classes)
        if style == "thickness":
            mean = np.zeros(num_classes)
        if style != "width":
            deviation = np.ones(num_classes)
        for table, rows in ((styles, origin), (shuffled, origin[shuffle])):
            table[style] = style_kept(
                getattr(source, style)[rows],
                getattr(result, style),
                source_labels[origin],
                target_labels,
                class_mean=mean,
                class_deviation=deviation,
            )
    accuracy = None
    if judged is not None:
        hits, labels = judged == target_labels, source_labels[origin]
        accuracy = _by_cell(hits, labels, target_labels, num_classes)
    return TransferScorecard(accuracy, styles, shuffled, int(result.blank.sum()))


def style_kept(
    source: np.ndarray,
    transferred: np.ndarray,
    source_labels: np.ndarray,
    target_labels: np.ndarray,
    *,
    class_mean: np.ndarray,
    class_deviation: np.ndarray,
) -> StyleKept:
    """How one measure of style survives: pairs (M,) of source and transferred values by cell.

    class_mean, class_deviation (K,): what the values of each class are counted from and in. Pairs
    with a NaN are left out.
    """
    k = len(class_mean)
    usable = np.isfinite(source) & np.isfinite(transferred)
    cell = (source_labels * k + target_labels)[usable]
    x, y = source[usable], transferred[usable]

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell, values, minlength=k * k)

    count = np.bincount(cell, minlength=k * k)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = total(x) / count, total(y) / count
        dx, dy = x - mean_x[cell], y - mean_y[cell]
        xx, yy, xy = total(dx * dx), total(dy * dy), total(dx * dy)
        scale_x, scale_y = np.repeat(class_deviation, k), np.tile(class_deviation, k)
        bias = (mean_y - np.tile(class_mean, k)) / scale_y
        bias -= (mean_x - np.repeat(class_mean, k)) / scale_x
        # A spread that is all rounding error is none
        moves_x = xx > 1e-12 * count * (1 + mean_x**2)
        moves_y = yy > 1e-12 * count * (1 + mean_y**2)
        enough = count >= MIN_PAIRS
        r = np.where(moves_x & moves_y & enough, xy / np.sqrt(xx * yy), np.nan)
        slope = np.where(moves_x & enough, xy / xx * scale_x / scale_y, np.nan)
    r, slope, bias = (np.where(np.isfinite(t), t, np.nan).reshape(k, k) for t in (r, slope, bias))
    return StyleKept(r.clip(-1, 1), slope, bias, count.reshape(k, k))


def features_kept(
    sources: np.ndarray,
    source_labels: np.ndarray,
    transferred: np.ndarray,
    target_labels: np.ndarray,
    origin: np.ndarray | None = None,
    *,
    num_classes: int,
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
    r, slope, bias, retrieval = np.full((4, num_classes, num_classes), np.nan)
    count = np.zeros((num_classes, num_classes), dtype=np.int64)
    for y, z in np.unique(np.stack([labels, target_labels], axis=1), axis=0):
        rows = np.flatnonzero((labels == y) & (target_labels == z))
        s, t = sources[origin[rows]].astype(float), transferred[rows].astype(float)
        count[y, z] = n = len(rows)
        if n < MIN_PAIRS:
            continue
        gap = t.mean(axis=0) - s.mean(axis=0)
        s, t = s - s.mean(axis=0), t - t.mean(axis=0)
        ss, tt, st = np.square(s).sum(), np.square(t).sum(), (s * t).sum()
        if ss > 1e-12 * n:
            slope[y, z] = st / ss
            bias[y, z] = np.linalg.norm(gap) / np.sqrt(ss / n)
        if ss > 1e-12 * n and tt > 1e-12 * n:
            r[y, z] = st / np.sqrt(ss * tt)
            squared = np.square(s).sum(axis=1) - 2 * t @ s.T  # |t|^2 is the same for every source
            own = np.diag(squared)[:, None]
            wins = (squared > own).sum() + 0.5 * ((squared == own).sum() - n)
            retrieval[y, z] = wins / (n * (n - 1))
    return StyleKept(r, slope, bias, count, retrieval)


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


def _by_cell(
    hits: np.ndarray, rows: np.ndarray, columns: np.ndarray, num_classes: int
) -> np.ndarray:
    """Share of hits in each cell (K, K), NaN where there is none."""
    cell, size = rows * num_classes + columns, num_classes * num_classes
    with np.errstate(invalid="ignore"):
        share = np.bincount(cell, hits, minlength=size) / np.bincount(cell, minlength=size)
    return share.reshape(num_classes, num_classes)


def _shuffled_within(groups: np.ndarray, seed: int) -> np.ndarray:
    """A permutation (M,) that leaves each row in its group."""
    chance = np.random.default_rng(seed).random(len(groups))
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
