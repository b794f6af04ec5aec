"""Distances in ImageNet Inception features, beside the judge's and never in their place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vaegan.errors import VaeganError
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.scores import Scores
from vaegan.metrics.distances import Reference, distances
from vaegan.metrics.inception import Inception

__all__ = ["measure_inception"]

SETS: dict[str, Callable[[Bench], np.ndarray]] = {
    "floor": lambda bench: bench.training.pixels,
    "prior": lambda bench: bench.prior_samples,
    "aggregate": lambda bench: bench.aggregate_samples,
    "reconstruction": lambda bench: bench.reconstructions,
}


def measure_inception(bench: Bench, scores: Scores, inception: Inception) -> None:
    """`inception_{floor,prior,aggregate,reconstruction}_{frechet,kernel}_distance`.

    The Frechet distance needs more images than there are features, 2048; below that, and for sets
    that the system does not have, there is one line. It falls as images are added: compare it only
    with papers that measure on as many.
    """
    scores.about["inception"] = inception.name
    reference = Reference(inception.features(bench.real.pixels))
    for name, of in SETS.items():
        try:
            features = inception.features(of(bench))
        except VaeganError as error:
            scores.skip(f"inception: {error}")
            continue
        values, problems = distances(reference, features)
        scores.add(f"inception_{name}", values)
        for line in problems:
            scores.skip(f"inception: {line}")
