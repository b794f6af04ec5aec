"""Samples: from the prior, and from the aggregate posterior, which tells decoder from prior.

A VAE whose codes do not fill the prior decodes draws from where no image ever was. Draws from a
Gaussian, or a mixture of a few, fitted to the codes of each class's training images show what the
decoder itself can do.
Both kinds are as many as the real images, and have their labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from vaegan.errors import VaeganError
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.scores import Scores
from vaegan.metrics import diversity
from vaegan.metrics.distances import (
    compare_features,
    compare_features_by_class,
    distance_errors,
)
from vaegan.metrics.fidelity import sharpness, specks

__all__ = ["measure_floor", "measure_samples", "score_images"]

SCORED, CLASSIFIED = 0.25, 0.5  # shares of the time of `measure_samples`, as measured on MNIST


def measure_floor(bench: Bench, scores: Scores) -> None:
    """`floor_...`: the measures of samples, with real training images in the place of samples."""
    score_images(bench, scores, "floor", bench.training.pixels, bench.training.labels)
    if bench.judge.num_classes:  # it has seen the training images: say what it reads in the others
        hits = bench.judge.predict(bench.real.pixels) == bench.labels()
        scores.add_means("floor", {"label_accuracy": hits}, bench.seed)


def measure_samples(bench: Bench, scores: Scores, progress: Callable[[float], None]) -> None:
    """`prior_...` and `aggregate_...`; a line for what the system does not have.

    progress(share): called while the classifiers of the classification accuracy score train.
    """

    def told(begun: float) -> Callable[[int, int], None]:
        return lambda step, steps: progress(begun + CLASSIFIED * step / steps)

    try:
        labels = bench.real.labels if bench.conditional else None
        score_images(bench, scores, "prior", bench.prior_samples, labels)
        classify(bench, scores, "prior", bench.prior_samples, labels, told(SCORED))
    except VaeganError as error:
        scores.skip(f"prior samples: {error}")
    try:
        labels = bench.real.labels
        pixels = bench.aggregate_samples
        scores.about["aggregate_components"] = bench.aggregate.components
        score_images(bench, scores, "aggregate", pixels, labels)
        if not bench.conditional or bench.model.config.family == "ae":
            classify(bench, scores, "aggregate", pixels, labels, told(1 - CLASSIFIED))
    except VaeganError as error:
        scores.skip(f"aggregate posterior samples: {error}")


def share_errors(values: Mapping[str, float], generated: int, real: int) -> dict[str, float]:
    """Standard errors of precision, recall and coverage, the neighbourhoods taken as they are."""
    counts = {"precision": generated, "recall": real, "coverage": real}
    return {
        name: math.sqrt(values[name] * (1 - values[name]) / count)
        for name, count in counts.items()
        if name in values
    }


def score_images(
    bench: Bench,
    scores: Scores,
    prefix: str,
    pixels: np.ndarray,
    labels: np.ndarray | None,
    paired: bool = False,
) -> None:
    """Measure a set of images against the real ones; `labels` are those they were made for.

    paired: image i was made of real image i.
    """
    features, logits = bench.read(pixels)
    values, problems = compare_features(bench.reference, features)
    scores.add(prefix, values)
    for line in problems:
        scores.skip(f"{prefix}: {line}")
    errors = distance_errors(bench.reference, features)
    errors |= share_errors(values, len(features), bench.count)
    scores.add_errors(prefix, errors)
    each = sharpness(pixels)
    scores.add_ratios(prefix, each, bench.real_sharpness, paired, bench.seed)
    scores.add(prefix, {"grey_share": each["grey_share"].mean()})
    scores.add_means(prefix, {"specked": specks(pixels) > 0}, bench.seed)

    if bench.real.labels is None:
        scores.skip("no label accuracy, nothing by class, no classifiers: the data has no labels")
        return
    if labels is None:
        why = f"system {bench.model.config.system!r} is not told labels"
        scores.skip(f"{prefix}: no label accuracy, nothing by class: {why}")
        return
    if logits is not None:
        agreement = diversity.label_agreement(logits, labels)
        scores.add_means(prefix, {"label_accuracy": logits.argmax(1) == labels}, bench.seed)
        scores.table(f"{prefix}_confusion", agreement.confusion)
    by_class(bench, scores, prefix, features, labels)


def by_class(
    bench: Bench, scores: Scores, prefix: str, features: np.ndarray, labels: np.ndarray
) -> None:
    """Distances and diversity within each class, as tables (K,); the means over the classes."""
    found, problems = compare_features_by_class(
        bench.real_features, bench.labels(), features, labels
    )
    tables = {
        name: np.array([found.get(label, {}).get(name, np.nan) for label in range(bench.classes)])
        for name in dict.fromkeys(name for values in found.values() for name in values)
    }
    tables["diversity"] = diversity.diversity_within(
        features, labels, bench.real_features, bench.labels(), bench.classes
    )
    for name, row in tables.items():
        scores.table(f"{prefix}_{name}_by_class", row)
        if np.isfinite(row).any():
            suffix = "" if name == "diversity" else "_mean_of_classes"
            scores.values[f"{prefix}_{name}{suffix}"] = float(np.nanmean(row))
    for line in merged(problems):
        scores.skip(f"by class: {line}")


def merged(problems: list[str]) -> list[str]:
    """One line for a reason that several classes share: the first, and how many more there are."""
    reasons: dict[str, list[str]] = {}
    for line in problems:
        label, _, problem = line.partition(": ")
        reasons.setdefault(problem.split(":")[0], []).append(f"{problem} ({label}")
    return [
        lines[0] + (f" and {len(lines) - 1} more)" if len(lines) > 1 else ")")
        for lines in reasons.values()
    ]


def classify(
    bench: Bench,
    scores: Scores,
    prefix: str,
    pixels: np.ndarray,
    labels: np.ndarray | None,
    progress: Callable[[int, int], None],
) -> None:
    """The classification accuracy score, its control, and the reverse."""
    train = bench.training
    if labels is None or train.labels is None:
        return
    order = bench.random("classifier").permutation(len(train))
    found = diversity.classification_scores(
        (pixels, labels),
        (train.pixels[order], train.labels[order]),
        (bench.real.pixels, bench.labels()),
        bench.classes,
        bench.classifier or diversity.cas_settings(len(pixels)),
        progress,
    )
    scores.add(
        prefix,
        {
            "classification_accuracy": found.generated_to_real,
            "classification_accuracy_of_real": found.real_to_real,
            "classification_accuracy_reverse": found.real_to_generated,
        },
    )
