"""`vaegan train --dry-run`: what would be trained, how large it is, how long it takes."""

from __future__ import annotations

import json
import resource
import sys
import time

from vaegan.config import RunConfig
from vaegan.data import Dataset
from vaegan.settings import Budget

__all__ = ["describe"]

TRIED = 3


def describe(config: RunConfig, dataset: Dataset, budget: Budget, device: str) -> None:
    """Print settings and sizes to stdout; time and memory come from running three steps."""
    print(json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False))
    model = config.model
    print(
        f"\ndata           {dataset.name}: {len(dataset.train):,} training, "
        f"{len(dataset.validation):,} validation, {len(dataset.test):,} test images of "
        f"{model.image_size[0]}x{model.image_size[1]}x{model.channels}, "
        f"{dataset.num_classes} classes"
    )
    for name in model.networks:
        macs = sum(layer.macs for layer in model.traced(name))
        print(
            f"{name:<14} {model.parameters(name):>10,} parameters, "
            f"{macs / 1e6:.1f} M multiply-adds an image"
        )

    from vaegan.ranks import Ranks
    from vaegan.training import trainer_for

    trainer = trainer_for(config, dataset, Ranks(device=device))
    trainer.step()
    began = time.perf_counter()
    for _ in range(TRIED):
        trainer.step()
    seconds = (time.perf_counter() - began) / TRIED
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    steps = budget.steps
    if budget.images is not None:
        steps = round(budget.images * trainer.progress.step / trainer.progress.images_seen)
    if steps is not None:
        plan = f"{steps:,} steps: about {_duration(steps * seconds)}"
    else:
        minutes = budget.minutes or 0.0
        plan = f"{minutes:g} minutes: about {minutes * 60 / seconds:,.0f} steps"
    print(f"time           {seconds:.3f} s a step on {device}; {plan}")
    print(f"memory         about {megabytes:,.0f} MB")


def _duration(seconds: float) -> str:
    """Seconds as people say it."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
