"""The whole evaluation of a model, part after part: what cannot be measured is named, and skipped.

samples          from the prior and from the aggregate posterior; their floor
reconstructions  errors, distances, label kept, sharpness
transfer         label reached and style kept, with controls
latents          what the code holds, and what it should not
metric           whether the discriminator's features rank as people do
inception        distances as papers have them, only when asked for
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from vaegan.batching import BATCH
from vaegan.config import ObjectiveConfig
from vaegan.data import Dataset
from vaegan.errors import VaeganError
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.inception import measure_inception
from vaegan.evaluation.latents import measure_latents
from vaegan.evaluation.learned import measure_metric
from vaegan.evaluation.reconstructions import measure_reconstructions
from vaegan.evaluation.samples import measure_floor, measure_samples
from vaegan.evaluation.scores import Scores
from vaegan.evaluation.transfer import Truth, measure_transfer
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.inception import Inception
from vaegan.metrics.judge import Judge
from vaegan.model import Model
from vaegan.presets import DEFAULT

__all__ = ["Progress", "evaluate"]

Progress = Callable[[str, float], None]
"""Called with the name of the part that begins or goes on, and the share of the work done."""


def evaluate(
    model: Model,
    dataset: Dataset,
    judge: Judge,
    *,
    n: int = 10_000,
    seed: int = 0,
    batch: int = BATCH,
    objective: ObjectiveConfig | None = None,
    classifier: TrainingSettings | None = None,
    truth: Truth | None = None,
    inception: Inception | None = None,
    style: Judge | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Measure everything that the model can be measured for, on up to `n` test images.

    The same model, data, judge, n and seed give the same scores; `batch` changes no more than
    rounding. `objective` says how the model's similarity weighs the tapped layers, by default as
    the recipe `default` does; `classifier` how the classifiers of the classification accuracy score
    are trained; `truth`, where the data has it, gives the images that a transfer ought to produce;
    `inception`, the network whose features papers measure distances in, adds `inception_...`.
    `style`, the encoder `Judge.trained_on(dataset, task="style")`, the features in which any
    image's style is measured.
    Raises DataError when the data has no test images, or other classes than the model.
    """
    objective = objective or DEFAULT.objective
    bench = Bench(model, dataset, judge, n, seed, batch, classifier)
    scores = Scores(about=described(bench))
    # Shares of the time, as measured on MNIST.
    parts: dict[str, tuple[float, Callable[[], None]]] = {
        "floor": (0.06, lambda: measure_floor(bench, scores)),
        "samples": (0.5, lambda: measure_samples(bench, scores, within)),
        "reconstructions": (0.06, lambda: measure_reconstructions(bench, scores)),
        "transfer": (0.3, lambda: measure_transfer(bench, scores, truth, style)),
        "latents": (0.02, lambda: measure_latents(bench, scores)),
        "metric": (0.06, lambda: measure_metric(bench, scores, objective)),
    }
    if inception is not None:  # on one core of a CPU
        parts["inception"] = (27.0, lambda: measure_inception(bench, scores, inception))
    total, done = sum(share for share, _ in parts.values()), 0.0

    def within(part: float) -> None:
        if progress is not None:
            progress(name, (done + part * share) / total)

    for name, (share, measure) in parts.items():
        if progress is not None:
            progress(name, done / total)
        began = time.perf_counter()
        try:
            measure()
        except VaeganError as error:
            scores.skip(f"{name}: {error}")
        scores.seconds[name] = time.perf_counter() - began
        done += share
    if progress is not None:
        progress("done", 1.0)
    return scores


def described(bench: Bench) -> dict[str, Any]:
    """What the numbers mean: extractor, counts, split, value range, settings."""
    judge, config = bench.judge, bench.model.config
    return {
        "system": config.system,
        "latent_dim": config.latent_dim,
        "temperature": config.temperature,
        "data": bench.dataset.name,
        "data_fingerprint": bench.dataset.fingerprint,
        "extractor": f"judge-{judge.about['data']}-{judge.task}",
        "extractor_accuracy": judge.accuracy if judge.accuracy == judge.accuracy else None,
        "extractor_features": judge.num_features,
        "extractor_about": str(judge),
        "extractor_digest": judge.about["sha256"],
        "extractor_version": judge.about["version"],
        "split": "test",
        "asked_images": bench.n,
        "real_images": bench.count,
        "generated_images": bench.count,
        "floor": f"{len(bench.training):,} training images against the test images",
        "value_range": "uint8, 0 to 255",
        "neighbours": 5,
        "seeds": [bench.seed],
        "device": bench.model.device.type,
        "threads": torch.get_num_threads(),
    }
