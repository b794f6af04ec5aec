"""The learned metric: do the discriminator's features find a shifted image nearer than a cut one?

The test is that of `metrics.ranking`. It is asked of the features at every depth, of the metric
that the system trains with (all tapped layers together, weighed as in the loss; distances are
Euclidean, also where the loss is the tutorial's cross-entropy), and for control of
discriminators that were never trained (pooling alone forgives shifts), of the judge, and of pixels.

A shift by a whole pixel is tested against squares of 7 x 7 pixels: the loss is plain to see, and
yet pixels rank nearly every pair wrong. A shift by half a pixel costs so little that pixels forgive
it when the cut is large; it is tested, as blur is, against the small cuts of 3 x 3 and 5 x 5, where
pixels are mostly wrong. The tables give every size of cut.
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
from vaegan.layers import Classes, Logit, Tap
from vaegan.metrics import ranking
from vaegan.model import Model
from vaegan.networks import Discriminator

__all__ = [
    "CUTS",
    "TESTED",
    "UNTRAINED",
    "Metric",
    "discriminator_metric",
    "measure_metric",
    "metric_rows",
    "own_metric",
]

CUTS = (3, 5, 7)
TESTED = {"shift_1": (7,), "shift_half": (3, 5), "blur": (3, 5)}  # sizes of cut behind each score
UNTRAINED = 3  # discriminators
IMAGES, VALUES = 1000, 20_000_000  # at most so many images, and features of all of them
PAIRS = 100  # the fewest that a share is told of
SIMILARITY = "similarity"


@dataclass(frozen=True)
class Metric:
    """Features whose Euclidean distance is a metric: uint8 pixels -> (N, F_l) for each name."""

    names: tuple[str, ...]
    features: Callable[[np.ndarray], Sequence[np.ndarray]]


def measure_metric(bench: Bench, scores: Scores, objective: ObjectiveConfig) -> None:
    """`metric_WHO_VARIANT`: share of pairs ranked right at the sizes of cut of `TESTED`;
    `..._strict`: of those alone that pixels rank wrong, NaN where these are fewer than 100.

    WHO is similarity, depth_1 and so on (named in about["metric_depths"]), the same with untrained_
    before it (the similarity: untrained alone), judge, pixels; metric_pairs_... counts the pairs.
    The tables `..._by_cut` are of all pairs. Unsupported without a discriminator.
    """
    model = bench.model
    if model.discriminator is None:
        raise Unsupported(f"system {model.config.system!r} has no discriminator to learn a metric")
    rows = metric_rows(bench)
    pixels = bench.real.pixels[rows]
    scores.about["metric_images"], scores.about["metric_cuts"] = len(rows), list(CUTS)

    metric = own_metric(bench, rows, objective)
    found = ranking.ranking_test(metric.features, pixels, CUTS, bench.seed)
    judged = ranking.ranking_test(bench.judge.depths, pixels, CUTS, bench.seed)
    untrained = [
        ranking.ranking_test(
            own_metric(bench, rows, objective, seed).features, pixels, CUTS, bench.seed
        )
        for seed in range(UNTRAINED)
    ]
    scores.about["metric_depths"] = list(metric.names[:-1])

    depths = [f"depth_{number}" for number in range(1, len(metric.names))]
    for variant in ranking.VARIANTS:
        trained = np.stack([test.wins[variant] for test in found])  # (cuts, depths, N)
        fresh = np.mean([[t.wins[variant] for t in tests] for tests in untrained], axis=0)
        wins = {"pixels": np.stack([test.pixels[variant] for test in found])}
        wins |= dict(zip([*depths, SIMILARITY], trained.swapaxes(0, 1)))
        names = [*(f"untrained_{name}" for name in depths), "untrained"]
        wins |= dict(zip(names, fresh.swapaxes(0, 1)))
        wins["judge"] = np.stack([test.wins[variant][-1] for test in judged])
        wrong = np.stack([test.wrong[variant] for test in found])
        add_shares(scores, variant, wins, wrong, bench.seed)


def add_shares(
    scores: Scores, variant: str, wins: dict[str, np.ndarray], wrong: np.ndarray, seed: int
) -> None:
    """Take in the shares of one variant: `wins` by name and the pairs that pixels rank wrong, each
    (cuts, N) in the order of `CUTS`. The pairs of one image hang together.
    """
    tested = [CUTS.index(size) for size in TESTED[variant]]
    chosen = {variant: np.ones_like(wrong[tested]), f"{variant}_strict": wrong[tested]}
    images = np.broadcast_to(np.arange(wrong.shape[1]), wrong[tested].shape)
    for name, pairs in chosen.items():
        scores.values[f"metric_pairs_{name}"] = float(pairs.sum())
        for who, each in wins.items():
            if name == variant or pairs.sum() >= PAIRS:
                values = {name: each[tested][pairs]}
                scores.add_means(f"metric_{who}", values, seed, images[pairs])
            else:
                scores.values[f"metric_{who}_{name}"] = float("nan")
    for who, each in wins.items():
        scores.table(f"metric_{who}_{variant}_by_cut", each.mean(axis=1))


def own_metric(
    bench: Bench, rows: np.ndarray, objective: ObjectiveConfig, untrained: int | None = None
) -> Metric:
    """The metric of the model, told the labels of these real images; or that of the same
    discriminator before training, with the initial weights of a seed.
    """
    model = bench.model
    if untrained is not None:
        model = Model(model.config, seed=untrained).to(model.device)
    labels = bench.labels()[rows] if bench.conditional else None
    return discriminator_metric(model, labels, objective, bench.batch)


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
        if not isinstance(stage, (Classes, Tap))
        and (isinstance(stage, Logit) or any(p.ndim > 1 for p in stage.parameters()))
    ]


def depth_names(discriminator: Discriminator, lines: Sequence[str]) -> tuple[str, ...]:
    """The blueprint's line of the layer with weights that each depth begins with."""
    stages = list(discriminator.body.stages)
    named = lines if len(lines) == len(stages) else [type(stage).__name__ for stage in stages]
    places = [stages.index(stage) for stage in weighted(discriminator)]
    return tuple(f"{number}: {named[i]}" for number, i in enumerate(places[:-1], 1))
