"""Measure a run, or take what was measured of it before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vaegan import checkpoint
from vaegan.cli.loading import Opened
from vaegan.errors import RunError

if TYPE_CHECKING:
    from vaegan.data import Dataset
    from vaegan.evaluation.comparison import Run
    from vaegan.evaluation.scores import Scores
    from vaegan.metrics.inception import Inception
    from vaegan.metrics.judge import Judge
    from vaegan.rundir import RunDirectory

__all__ = ["Judges", "measured", "measured_once", "trained"]


class Judges:
    """Data sets and their judges, loaded and trained once however many runs share them."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self.known: dict[tuple[str, tuple[int, int]], tuple[Dataset, Judge]] = {}
        self.styles: dict[str, Judge] = {}

    def of(self, opened: Opened) -> tuple[Dataset, Judge]:
        """The data set of a run and its judge."""
        key = (opened.data or opened.run.config().data, opened.model.config.image_size)
        if key not in self.known:
            dataset = opened.dataset()
            self.known[key] = dataset, self.trained_on(dataset)
        return self.known[key]

    def style_of(self, opened: Opened) -> Judge | None:
        """The encoder of style for a run's data set; None for a system that transfers nothing."""
        dataset, _ = self.of(opened)
        if not (dataset.num_classes and opened.model.config.num_classes and opened.model.encoder):
            return None
        if dataset.fingerprint not in self.styles:
            self.styles[dataset.fingerprint] = self.trained_on(dataset, "style")
        return self.styles[dataset.fingerprint]

    def trained_on(self, dataset: Dataset, task: Literal["style"] | None = None) -> Judge:
        """The judge or the encoder of style, from the cache or trained with a progress bar."""
        from vaegan.cli.stages import Stages
        from vaegan.metrics.judge import Judge

        name = "training the encoder of style" if task else "training the judge"
        with Stages() as stages:
            judge = Judge.trained_on(
                dataset,
                self.cache,
                progress=lambda step, steps: stages(name, step / steps),
                task=task,
            )
        print(judge, file=sys.stderr)
        return judge


def measured(
    opened: Opened,
    judges: Judges,
    n: int,
    seeds: Sequence[int],
    inception: Inception | None = None,
) -> Scores:
    """The scores of a run, of every seed of draws and their means, with what it is in `about`."""
    from vaegan import __version__
    from vaegan.cli.stages import Stages
    from vaegan.evaluation import evaluate as evaluate_model
    from vaegan.evaluation.scores import averaged

    (dataset, judge), style = judges.of(opened), judges.style_of(opened)
    config = opened.run.config()
    if dataset.fingerprint != config.data_fingerprint:
        print(f"note: {opened.run.path} was trained on other images than these", file=sys.stderr)
    draws = []
    with Stages() as stages:
        for place, seed in enumerate(seeds):
            title = f"draws of seed {seed}: " if len(seeds) > 1 else ""
            draws.append(
                evaluate_model(
                    opened.model,
                    dataset,
                    judge,
                    n=n,
                    seed=seed,
                    objective=config.objective,
                    inception=inception,
                    style=style,
                    progress=stages.piece(place, len(seeds), title),
                )
            )
    scores = averaged(draws)
    scores.about |= {
        "vaegan_version": __version__,
        "recipe": config.recipe,
        "run_seed": config.seed,
    }
    if reached := trained(opened.run):
        scores.about["trained"] = reached
    return scores


def trained(run: RunDirectory) -> dict[str, float] | None:
    """How far a run is: step, images_seen and seconds of its newest checkpoint, or, where these
    were removed, of the last row of stats; None where there is neither.
    """
    numbers = checkpoint.reached(run.checkpoints) or next(reversed(run.rows()), None)
    names = ("step", "images_seen", "seconds")
    return numbers and {name: round(numbers[name], 3) for name in names}


def _same_step(scores: Scores, run: RunDirectory) -> bool:
    """Whether scores are of the step that a run has reached, as far as its checkpoints tell."""
    reached = checkpoint.reached(run.checkpoints)
    return reached is None or scores.about.get("trained", {}).get("step") == reached["step"]


def measured_once(opened: Opened, judges: Judges, n: int, seed: int) -> Run:
    """The run with the scores in its metrics.json, where these are what is asked; else measured."""
    from vaegan.evaluation.comparison import Run

    scores = kept(opened, *judges.of(opened), n, seed) if opened.run.metrics.is_file() else None
    if scores is None:
        scores = measured(opened, judges, n, [seed])
        scores.write(opened.run.metrics)
    return Run(opened.run.path, opened.run.config(), scores, opened.model)


def kept(opened: Opened, dataset: Dataset, judge: Judge, n: int, seed: int) -> Scores | None:
    """What metrics.json says of this model, judge, n and seed; None, with a note, if it does not.

    Of a file with several seeds, the one that is asked.
    """
    from vaegan import __version__
    from vaegan.evaluation.scores import Scores

    file = opened.run.metrics
    try:
        scores = Scores.read(file)
    except RunError:
        print(f"note: {file} cannot be read: measured again", file=sys.stderr)
        return None
    differences = {
        "other images": scores.about.get("data_fingerprint") != dataset.fingerprint,
        "another judge": scores.about.get("extractor_digest") != judge.about["sha256"],
        "another vaegan": scores.about.get("vaegan_version") != __version__,
        "another --n": scores.about.get("asked_images") != n,
        "another temperature": scores.about.get("temperature", 1.0)
        != opened.model.config.temperature,
        "other seeds": seed not in scores.about.get("seeds", []),
        "an earlier state of the model": file.stat().st_mtime < opened.run.weights.stat().st_mtime
        or not _same_step(scores, opened.run),
    }
    found = [what for what, differs in differences.items() if differs]
    if found:
        print(f"note: {file} is of {', '.join(found)}: measured again", file=sys.stderr)
        return None
    return scores.of_seed(seed)
