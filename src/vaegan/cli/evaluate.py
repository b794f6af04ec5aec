"""`vaegan evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from vaegan.cli.loading import Opened, open_run
from vaegan.cli.measuring import Judges, measured
from vaegan.cli.train import Positive, own_process
from vaegan.errors import ConfigError, VaeganError

if TYPE_CHECKING:
    from vaegan.data import Dataset
    from vaegan.evaluation.scores import Scores
    from vaegan.metrics.judge import Judge

Images = Annotated[int, Parameter(validator=validators.Number(gte=2))]


def evaluate(
    *runs: Path,
    n: Images = 10_000,
    seeds: str = "0",
    data: str | None = None,
    out: Path | None = None,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    threads: Positive | None = None,
    inception: str | None = None,
) -> int:
    """Measure samples, reconstructions, transfer, latents and the learned metric of a run.

    A judge, a classifier trained on the data set's own training images, reads labels and gives the
    features of all distances; another encoder sees style. Both are trained once and kept. 10,000
    images of MNIST take three minutes on two cores once they are. Runs that
    differ in nothing but their training seed give one table of means with intervals over the runs;
    other runs, tables of their own.

    Parameters
    ----------
    runs
        Run directories that `vaegan train` wrote, or `mnist`, which comes with the package.
    n
        Test images to measure on, and images to generate of each kind.
    seeds
        Which draws, between commas: every run is measured with each, and its numbers are the means.
        The same seeds give the same numbers.
    data
        Another data set, or the run's own at a new place.
    out
        Where to write the numbers of a single run; RUN/metrics.json when left out.
    cache
        Where judges and Inception weights are kept; VAEGAN_CACHE or the user's cache when left out.
    threads
        CPU threads.
    device
        Where the model runs; `auto` takes the first of cuda, mps and cpu that is there.
    inception
        Measure distances in ImageNet Inception features too (FID and KID), with pytorch-fid's
        weights from a file, or from the network by the word `download` (96 MB, once). It takes
        about 6 billion multiply-adds an image, for five sets of n images: three hours for 10,000 on
        one core of a CPU. Only for comparison with papers: off photographs it means little.
    """
    from vaegan.cli.scoreboard import show
    from vaegan.devices import device_named
    from vaegan.evaluation.grouping import headings
    from vaegan.rundir import RunDirectory

    if not runs:
        raise ConfigError("name a run to evaluate: vaegan evaluate RUN")
    if out and len(runs) > 1:
        raise ConfigError("--out takes one run; several runs write RUN/metrics.json each")
    numbers = listed("seeds", seeds, int)
    names = headings(runs, [RunDirectory.open(path).config() for path in runs])
    own_process(threads)
    judges, network = Judges(cache), None
    if inception is not None:
        from vaegan.metrics.inception import Inception

        network = Inception.load(inception, cache, device_named(device))
    groups: dict[str, list[Scores]] = {}
    try:
        for name, path in zip(names, runs):
            opened = open_run(path, data, device_named(device))
            scores = measured(opened, judges, n, numbers, network)
            target = out or opened.run.metrics
            scores.write(target)
            print(target, file=sys.stderr)
            draw(opened, *judges.of(opened), scores)
            groups.setdefault(name, []).append(scores)
    except KeyboardInterrupt:
        print("stopped; nothing is lost: the same command measures again", file=sys.stderr)
        return 130
    for place, (name, group) in enumerate(groups.items()):
        if place:
            print("\n")
        show(name, group)
    return 0


def listed(flag: str, text: str, kind: type[Any]) -> list[Any]:
    """``"2,8"`` -> [2, 8]; ConfigError that quotes the entry."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if kind is int and not all(part.isdecimal() and len(part) < 19 for part in parts):
        raise ConfigError(f"--{flag} {text}: expected whole numbers, 0 or more, between commas")
    found = [kind(part) for part in parts]
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"--{flag} {text}: name each once, between commas")
    return found


def draw(opened: Opened, dataset: Dataset, judge: Judge, scores: Scores) -> None:
    """The figure of the learned metric, where there is one: of the images that were measured."""
    from vaegan.evaluation.bench import Bench
    from vaegan.evaluation.picture import learned_metric
    from vaegan.figures.output import save

    if opened.model.discriminator is None:
        return
    about = scores.about
    bench = Bench(opened.model, dataset, judge, about["asked_images"], about["seeds"][0])
    try:
        picture = learned_metric(bench, scores, opened.run.config().objective)
    except VaeganError as error:
        print(f"no learned-metric.png: {error}", file=sys.stderr)
        return
    print(save(picture, opened.run.figures / "learned-metric.png"), file=sys.stderr)
