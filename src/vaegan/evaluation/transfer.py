"""Transfer: the style of every real image under another label, and four controls.

The sources of a class take the K - 1 other classes in turn, so that all K (K - 1) cells have as
many pairs: about 100, unless there are too few sources for that. Controls:

    same       decode(encode(x, y), y), the reconstruction: the most that this model keeps
    shuffled   the same transferred images, sources exchanged within their cell: the floor of r
    prior      prior samples with sources at random: nothing was encoded, nothing can be kept
    truth      where it exists (the same font's glyph): the image that ought to have come out

Intervals are over sources: all that was made of one is drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vaegan.errors import DataError, Unsupported, VaeganError
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.scores import Scores
from vaegan.metrics.fidelity import mse, specks, ssim
from vaegan.metrics.judge import Judge
from vaegan.metrics.morphometrics import measure
from vaegan.metrics.style import (
    StyleKept,
    features_kept,
    score_transfer,
    share_by_cell,
    shuffled_within,
)

__all__ = ["Truth", "measure_transfer"]

PAIRS = 100  # a cell

Truth = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Sources as uint8 (M, H, W, C) and target labels (M,) -> the true images, uint8 (M, H, W, C)."""


@dataclass(frozen=True)
class Transferred:
    """M images uint8 (M, H, W, C), their target labels (M,) and the rows (M,) of their sources."""

    pixels: np.ndarray
    targets: np.ndarray
    origin: np.ndarray


def measure_transfer(
    bench: Bench, scores: Scores, truth: Truth | None = None, style: Judge | None = None
) -> None:
    """`transfer_...`; Unsupported for a system without encoder or labels, or a single class.

    style: the encoder in whose features style is measured, task "style".
    """
    config = bench.model.config
    if not bench.conditional:
        raise Unsupported(f"system {config.system!r} is not told labels: nothing to transfer to")
    if bench.classes < 2:
        raise DataError("transfer needs two classes or more")
    labels = bench.labels()
    targets, origin = other_labels(labels, bench.classes)
    made = Transferred(bench.decode(bench.posterior.mode()[origin], targets), targets, origin)
    scores.about["transferred_images"] = len(targets)
    _, logits = bench.read(made.pixels)
    if logits is not None:
        hits = logits.argmax(1) == targets
        table = share_by_cell(hits, labels[origin], targets, bench.classes)
        scores.table("transfer_label_accuracy", table)
        scores.add_means("transfer", {"label_accuracy": hits}, bench.seed, origin)
        same = bench.judge.predict(bench.reconstructions) == labels
        scores.add_means("transfer_same", {"label_accuracy": same}, bench.seed)
    scores.add_means("transfer", {"specked": specks(made.pixels) > 0}, bench.seed, origin)
    cycle(bench, scores, made)
    if style is None:
        scores.skip(
            "transfer: no style in features: give an encoder of it, "
            'style=Judge.trained_on(dataset, task="style")'
        )
    else:
        score_features(bench, scores, style, made)
    score_strokes(bench, scores, made)
    if truth is not None:
        score_truth(bench, scores, truth, made)


def other_labels(labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets (M,) and the rows (M,) of their sources, labels (N,).

    Every source gets as many other classes as it takes for 100 pairs a cell, and the sources of a
    class begin with different ones.
    """
    each = math.ceil(PAIRS * classes * (classes - 1) / len(labels))
    each = min(max(each, 1), classes - 1)
    place = np.empty_like(labels)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        place[rows] = np.arange(len(rows))
    hops = 1 + (place[:, None] * each + np.arange(each)) % (classes - 1)
    return ((labels[:, None] + hops) % classes).ravel(), np.arange(len(labels)).repeat(each)


def cycle(bench: Bench, scores: Scores, made: Transferred) -> None:
    """There and back, a -> b -> a: x' = G(E(x, a), b), x'' = G(E(x', b), a).

    cycle_mse, cycle_ssim      of x'' to x; the reconstruction's are what an exact return costs
    cycle_latent_error         |E(x', b) - E(x, a)|^2 over that of two sources at random: 0 is an
                               exact return, 1 a code that remembers nothing
    """
    real = bench.real.pixels[made.origin]
    codes, returned = bench.posterior.mean, bench.encode(made.pixels, made.targets).mean
    back = bench.decode(returned, bench.labels()[made.origin])
    values = {"cycle_mse": mse(real, back), "cycle_ssim": ssim(real, back)}
    spread = 2 * float(codes.var(0).sum())
    if spread > 0:
        error = (returned - codes[made.origin]).square().sum(1).numpy()
        values["cycle_latent_error"] = error / spread
    scores.add_means("transfer", values, bench.seed, made.origin)


def score_features(bench: Bench, scores: Scores, style: Judge, made: Transferred) -> None:
    """Style as what the encoder of style sees within a class: valid for any images."""
    labels, classes = bench.labels(), bench.classes
    scores.about["style_encoder"] = str(style)
    sources, rebuilt, result = (
        style.features(pixels) for pixels in (bench.real.pixels, bench.reconstructions, made.pixels)
    )
    mixed = shuffled_within(labels[made.origin] * classes + made.targets, bench.random("features"))
    for name, features, targets, origin, same in (
        ("features", result, made.targets, made.origin, False),
        ("shuffled_features", result, made.targets, made.origin[mixed], False),
        ("same_features", rebuilt, labels, None, True),
    ):
        kept = features_kept(
            sources, labels, features, targets, origin, num_classes=classes, seed=bench.seed
        )
        add_kept(scores, f"transfer_{name}", kept, same)


def score_strokes(bench: Bench, scores: Scores, made: Transferred) -> None:
    """Style as thickness, slant and width, for images drawn in strokes."""
    source, labels, classes = bench.real_strokes, bench.labels(), bench.classes
    if source is None:
        scores.skip(
            "transfer: no thickness, slant, width: the images are not bright strokes on a dark "
            "ground; style is measured in features alone"
        )
        return
    card = score_transfer(
        source,
        labels,
        measure(made.pixels),
        made.targets,
        made.origin,
        num_classes=classes,
        seed=bench.seed,
    )
    same = score_transfer(
        source, labels, measure(bench.reconstructions), labels, num_classes=classes, seed=bench.seed
    )
    scores.values["transfer_blank"] = float(card.blank)
    for style, kept in card.styles.items():
        add_kept(scores, f"transfer_{style}", kept)
        add_kept(scores, f"transfer_shuffled_{style}", card.shuffled[style])
        add_kept(scores, f"transfer_same_{style}", same.styles[style], same=True)
        for name in ("r", "slope", "bias"):
            diagonal, others = (getattr(one.styles[style], name) for one in (same, card))
            table = np.where(np.eye(classes, dtype=bool), diagonal, others)
            scores.table(f"transfer_{style}_{name}", table)
    try:
        prior = measure(bench.prior_samples)
    except VaeganError as error:
        scores.skip(f"transfer: no control by prior latents: {error}")
        return
    origin = bench.random("prior origin").permutation(len(labels))
    drawn = score_transfer(
        source, labels, prior, labels, origin, num_classes=classes, seed=bench.seed
    )
    for style, kept in drawn.styles.items():
        add_kept(scores, f"transfer_prior_{style}", kept)


def score_truth(bench: Bench, scores: Scores, truth: Truth, made: Transferred) -> None:
    """Compare with the true images, and with those of other sources under the same target."""
    true = truth(bench.real.pixels[made.origin], made.targets)
    mixed = true[shuffled_within(made.targets, bench.random("truth"))]
    _, logits = bench.read(true)
    values = {
        "truth_mse": mse(true, made.pixels),
        "truth_ssim": ssim(true, made.pixels),
        "truth_shuffled_mse": mse(mixed, made.pixels),
        "truth_shuffled_ssim": ssim(mixed, made.pixels),
    }
    if logits is not None:
        values["truth_label_accuracy"] = logits.argmax(1) == made.targets
    scores.add_means("transfer", values, bench.seed, made.origin)


def add_kept(scores: Scores, prefix: str, kept: StyleKept, same: bool = False) -> None:
    """Means over the cells that count, with intervals: r, slope, bias, abs_bias, and retrieval
    where there is.
    """
    means = kept.mean(same)
    scores.add(prefix, {name: means[name] for name in means if name not in ("cells", "undefined")})
    scores.add_intervals(prefix, kept.intervals(same))
