"""The learned metric: do the discriminator's features find a shifted image nearer than a cut one?

The test is that of `metrics.ranking`. It is asked of the features at every depth, of the metric
that the system trains with (all tapped layers together, as weighed in the loss), and for control of
discriminators that were never trained (pooling alone forgives shifts), of the judge, and of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vaegan.config import ObjectiveConfig
from vaegan.errors import Unsupported
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.scores import Scores
from vaegan.images import to_images
from vaegan.layers import Logit, Tap
from vaegan.metrics import ranking
from vaegan.model import Model
from vaegan.networks import Discriminator

__all__ = ["CUTS", "UNTRAINED", "Metric", "discriminator_metric", "measure_metric", "metric_rows"]

CUTS = (3, 5, 7)
UNTRAINED = 3  # discriminators
IMAGES, VALUES = 1000, 20_000_000  # at most so many images, and features of all of them
SIMILARITY = "similarity"


@dataclass(frozen=True)
class Metric:
    """Features whose Euclidean distance is a metric: uint8 pixels -> (N, F_l) for each name."""

    names: tuple[str, ...]
    features: Callable[[np.ndarray], Sequence[np.ndarray]]


def measure_metric(bench: Bench, scores: Scores, objective: ObjectiveConfig) -> None:
    """`metric_...`: share of pairs ranked right, and of those that pixels rank wrong (`strict`).

    All cuts together; the tables `..._by_cut` are of all pairs. The columns of the tables
    `..._at_depth` are named in about["metric_depths"]. Unsupported without a discriminator.
    """
    model = bench.model
    if model.discriminator is None:
        raise Unsupported(f"system {model.config.system!r} has no discriminator to learn a metric")
    rows = metric_rows(bench)
    pixels = bench.real.pixels[rows]
    labels = bench.labels()[rows] if bench.conditional else None
    scores.about["metric_images"], scores.about["metric_cuts"] = len(rows), list(CUTS)

    metric = discriminator_metric(model, labels, objective, bench.batch)
    found = ranking.ranking_test(metric.features, pixels, CUTS, bench.seed)
    untrained = []
    for seed in range(UNTRAINED):
        fresh = Model(model.config, seed=seed).to(model.device)
        control = discriminator_metric(fresh, labels, objective, bench.batch)
        untrained.append(ranking.ranking_test(control.features, pixels, CUTS, bench.seed))
    judged = ranking.ranking_test(bench.judge.depths, pixels, CUTS, bench.seed)

    scores.about["metric_depths"] = list(metric.names)
    for variant in ranking.VARIANTS:
        scores.values[f"metric_pixels_{variant}"] = pixels_score(found, variant)
        scores.values[f"metric_pixels_{variant}_strict"] = 0.0  # by construction
        scores.table(
            f"metric_pixels_{variant}_by_cut", np.array([t.pixels[variant] for t in found])
        )
        scores.table(f"metric_similarity_{variant}_by_cut", by_cut(found, variant))
        scores.table(
            f"metric_untrained_{variant}_by_cut",
            np.mean([by_cut(tests, variant) for tests in untrained], axis=0),
        )
        scores.values[f"metric_pixels_{variant}_wrong_pairs"] = sum(t.pairs[variant] for t in found)
        for strict in (False, True):
            name = f"{variant}_strict" if strict else variant
            control = np.mean([by_depth(tests, variant, strict) for tests in untrained], axis=0)
            for who, row in (
                ("similarity", by_depth(found, variant, strict)),
                ("untrained", control),
                ("judge", by_depth(judged, variant, strict)),
            ):
                scores.values[f"metric_{who}_{name}"] = float(row[-1])
                scores.table(f"metric_{who}_{name}_at_depth", row)


def by_depth(found: list[ranking.RankingTest], variant: str, strict: bool) -> np.ndarray:
    """Scores at every depth, all cuts together; NaN where there is no pair that counts."""
    pairs = [test.pairs[variant] if strict else test.images for test in found]
    rows = [(test.strict if strict else test.score)[variant] for test in found]
    counted = [(row, count) for row, count in zip(rows, pairs) if count]
    if not counted:
        return np.full(len(rows[0]), np.nan)
    return np.average([row for row, _ in counted], axis=0, weights=[count for _, count in counted])


def by_cut(found: list[ranking.RankingTest], variant: str) -> np.ndarray:
    """The score at the last depth on all pairs, for each size of cut."""
    return np.array([test.score[variant][-1] for test in found])


def pixels_score(found: list[ranking.RankingTest], variant: str) -> float:
    """The score of pixels on all pairs of all cuts."""
    return float(np.mean([test.pixels[variant] for test in found]))


def metric_rows(bench: Bench) -> np.ndarray:
    """Rows of the real images that the pairs are made of: as many as memory allows, at most 1,000,
    and only images with something to cut.
    """
    traced = bench.model.config.traced("discriminator")
    values = 2 * sum(int(np.prod(layer.after)) for layer in traced)
    most = max(16, min(IMAGES, VALUES * 10 // max(values, 1)))
    usable = np.flatnonzero(bench.real.pixels.reshape(bench.count, -1).any(1))
    order = bench.random("metric").permutation(len(usable))
    return np.sort(usable[order[:most]])


def discriminator_metric(
    model: Model, labels: np.ndarray | None, objective: ObjectiveConfig, batch: int = 500
) -> Metric:
    """The features of a discriminator at every depth, and at last its similarity.

    labels: those of the images that will be given, in their order. A depth ends where the next
    layer with weights begins. The similarity is the concatenation of the tapped layers, each over
    its root mean square and size where the objective normalises; without taps, the last depth.
    """
    discriminator = model.network("discriminator")
    assert isinstance(discriminator, Discriminator)
    given = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels))
    names = depth_names(discriminator, model.config.architecture.discriminator)
    scales: list[float] = []

    @torch.no_grad()
    def features(pixels: np.ndarray) -> list[np.ndarray]:
        parts: list[list[Tensor]] = []
        taps: list[list[Tensor]] = []
        for i in range(0, len(pixels), batch):
            rows = slice(i, i + batch)
            images = to_images(pixels[rows], model.device)
            own = None if given is None else given[rows].to(model.device)
            depths, tapped = read_depths(discriminator, images, own)
            parts.append([x.flatten(1).cpu() for x in depths])
            taps.append([x.flatten(1).cpu() for x in tapped])
        layers = [torch.cat(layer) for layer in zip(*parts)]
        tapped = [torch.cat(layer) for layer in zip(*taps)] or layers[-1:]
        if not scales:  # the first images that are given are the originals
            for layer in tapped:
                mean = float(layer.square().mean()) * layer.shape[1] * len(tapped)
                scales.append(mean**-0.5 if objective.similarity_normalised and mean > 0 else 1.0)
        joined = torch.cat([layer * scale for layer, scale in zip(tapped, scales)], 1)
        return [layer.numpy() for layer in (*layers, joined)]

    return Metric((*names, SIMILARITY), features)


def read_depths(
    discriminator: Discriminator, images: Tensor, labels: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """What enters each layer with weights but the first (one for each depth), and the taps."""
    found: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0])

    handles = [stage.register_forward_pre_hook(note) for stage in weighted(discriminator)[1:]]
    try:
        taps = discriminator(images, labels).features
    finally:
        for handle in handles:
            handle.remove()
    return found, taps


def weighted(discriminator: Discriminator) -> list[nn.Module]:
    """Layers of the path that have matrices of weights: convolutions, dense layers, the logit."""
    return [
        stage
        for stage in discriminator.body.stages
        if not isinstance(stage, Tap)
        and (isinstance(stage, Logit) or any(p.ndim > 1 for p in stage.parameters()))
    ]


def depth_names(discriminator: Discriminator, lines: Sequence[str]) -> tuple[str, ...]:
    """The blueprint's line of the layer with weights that each depth begins with."""
    stages = list(discriminator.body.stages)
    named = lines if len(lines) == len(stages) else [type(stage).__name__ for stage in stages]
    places = [stages.index(stage) for stage in weighted(discriminator)]
    return tuple(f"{number}: {named[i]}" for number, i in enumerate(places[:-1], 1))
