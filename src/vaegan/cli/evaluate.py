"""`vaegan evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from vaegan.cli.loading import Opened, open_run
from vaegan.cli.pictures import Data, Seed
from vaegan.errors import ConfigError, VaeganError

if TYPE_CHECKING:
    from vaegan.data import Dataset
    from vaegan.evaluation.scores import Scores
    from vaegan.metrics.inception import Inception
    from vaegan.metrics.judge import Judge

Images = Annotated[int, Parameter(validator=validators.Number(gte=2))]


def evaluate(
    *runs: Path,
    n: Images = 10_000,
    seed: Seed = 0,
    data: Data = None,
    out: Path | None = None,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    inception: str | None = None,
) -> None:
    """Measure samples, reconstructions, transfer, latents and the learned metric of a run.

    A judge, a classifier trained on the data set's own training images, reads labels and gives the
    features of all distances; it is trained once and kept. Several runs, of several seeds for
    example, give one table of means with intervals over the runs.

    Parameters
    ----------
    runs
        Run directories that `vaegan train` wrote.
    n
        Test images to measure on, and images to generate of each kind.
    seed
        Which draws; the same seed gives the same numbers.
    data
        Another data set, or the run's own at a new place.
    out
        Where to write the numbers of a single run; RUN/metrics.json when left out.
    cache
        Where judges and Inception weights are kept; VAEGAN_CACHE or the user's cache when left out.
    device
        Where the model runs; `auto` takes the first of cuda, mps and cpu that is there.
    inception
        Measure distances in ImageNet Inception features too (FID and KID), with pytorch-fid's
        weights from a file, or from the network by the word `download` (96 MB, once). It takes
        about 6 billion multiply-adds an image, for five sets of n images: three hours for 10,000 on
        one core of a CPU. Only for comparison with papers: off photographs it means little.
    """
    from vaegan.cli.scoreboard import show
    from vaegan.training import device_named

    if not runs:
        raise ConfigError("name a run to evaluate: vaegan evaluate RUN")
    if out and len(runs) > 1:
        raise ConfigError("--out takes one run; several runs write RUN/metrics.json each")
    judges, network = Judges(cache), None
    if inception is not None:
        from vaegan.metrics.inception import Inception

        network = Inception.load(inception, cache, device_named(device))
    scores = []
    for path in runs:
        opened = open_run(path, data, device_named(device))
        scores.append(measured(opened, judges, n, seed, network))
        target = out or opened.run.metrics
        scores[-1].write(target)
        print(target, file=sys.stderr)
        draw(opened, judges.of(opened)[0])
    show(scores)


class Judges:
    """Data sets and their judges, loaded and trained once however many runs share them."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self.known: dict[tuple[str, tuple[int, int]], tuple[Dataset, Judge]] = {}

    def of(self, opened: Opened) -> tuple[Dataset, Judge]:
        """The data set of a run and its judge."""
        key = (opened.data or opened.run.config().data, opened.model.config.image_size)
        if key not in self.known:
            dataset = opened.dataset()
            self.known[key] = dataset, self.trained_on(dataset)
        return self.known[key]

    def trained_on(self, dataset: Dataset) -> Judge:
        """The judge, from the cache or trained with a progress bar."""
        from vaegan.cli.stages import Stages
        from vaegan.metrics.judge import Judge

        with Stages() as stages:
            judge = Judge.trained_on(
                dataset,
                self.cache,
                progress=lambda step, steps: stages("training the judge", step / steps),
            )
        print(judge, file=sys.stderr)
        return judge


def measured(
    opened: Opened, judges: Judges, n: int, seed: int, inception: Inception | None = None
) -> Scores:
    """The scores of a run, with what it is in `about`."""
    from vaegan.cli.stages import Stages
    from vaegan.evaluation import evaluate as evaluate_model

    dataset, judge = judges.of(opened)
    config, rows = opened.run.config(), opened.run.rows()
    if dataset.fingerprint != config.data_fingerprint:
        print(f"note: {opened.run.path} was trained on other images than these", file=sys.stderr)
    with Stages() as stages:
        scores = evaluate_model(
            opened.model,
            dataset,
            judge,
            n=n,
            seed=seed,
            objective=config.objective,
            inception=inception,
            progress=stages,
        )
    scores.about |= {"recipe": config.recipe, "run_seed": config.seed}
    if rows:
        names = ("step", "images_seen", "seconds")
        scores.about["trained"] = {name: rows[-1][name] for name in names}
    return scores


def draw(opened: Opened, dataset: Dataset) -> None:
    """The figure of the learned metric, where there is one."""
    from vaegan.evaluation.picture import learned_metric
    from vaegan.figures.output import save

    if opened.model.discriminator is None:
        return
    try:
        picture = learned_metric(opened.model, dataset.test, opened.run.config().objective)
    except VaeganError as error:
        print(f"no learned-metric.png: {error}", file=sys.stderr)
        return
    print(save(picture, opened.run.figures / "learned-metric.png"), file=sys.stderr)
