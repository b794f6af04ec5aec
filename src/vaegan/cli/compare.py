"""`vaegan compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from vaegan import checkpoint
from vaegan.cli.evaluate import Images, listed
from vaegan.cli.loading import open_run
from vaegan.cli.measuring import Judges, measured_once, trained
from vaegan.cli.train import Positive, overrides, own_process
from vaegan.errors import ConfigError, RunError, TrainingDiverged

if TYPE_CHECKING:
    from vaegan.config import RunConfig
    from vaegan.data import Dataset, Split
    from vaegan.evaluation.comparison import Run
    from vaegan.rundir import RunDirectory
    from vaegan.settings import Budget

LADDER = "vae,cvae,gan,cgan,vae-gan,cvae-gan"


def compare(
    *runs: Path,
    data: str | None = None,
    systems: str | None = None,
    latent_dims: str | None = None,
    minutes: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1e6))] | None = None,
    steps: Positive | None = None,
    recipe: str | None = None,
    seeds: str | None = None,
    outdir: Path | None = None,
    n: Images = 10_000,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    threads: Positive | None = None,
    cache: Path | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
) -> int:
    """Train systems on one budget with the same networks, measure them, and show them together.

    The same command again goes on where it stopped and skips what is finished. Given finished
    runs, it trains nothing; those that differ in nothing but their seed share a column of means.
    Writes compare.json, table.md and compare.png, and prints the table. Three runs or more that
    differ in one number, such as --latent-dims 2,4,8, also give curve.png: what that number does.

    Parameters
    ----------
    runs
        Finished runs to compare in place of training any.
    data
        `digits` (embedded, when left out), `mnist`, `fashion-mnist`, or a folder as for `train`.
        With finished runs: another data set, or their own at a new place.
    systems
        Rungs of the ladder, between commas; vae,cvae,gan,cgan,vae-gan,cvae-gan when left out.
    latent_dims
        Sizes of the code, between commas, 8 when left out; every system is trained with each.
    minutes
        Training time of each run; 5 when neither this nor --steps is given.
    steps
        Steps of each run, in place of --minutes.
    recipe
        Networks, losses, optimisers and schedule, as for `train`; `default` when left out.
    seeds
        Training seeds, between commas, 0 when left out; several give means and intervals over the
        runs.
    outdir
        Where runs and results go; runs/compare when left out.
    n
        Test images to measure on, and images to generate of each kind.
    seed
        Which draws to measure with.
    device
        Where to train and measure; `auto` takes the first of cuda, mps and cpu that is there.
    precision
        As for `train`; `auto` when left out.
    threads
        CPU threads.
    cache
        Where judges are kept; VAEGAN_CACHE or the user's cache when left out.
    settings
        Any other setting for every run, such as `--set objective.kl_weight=2`.
    """
    from vaegan.devices import device_named
    from vaegan.evaluation.grouping import headings
    from vaegan.rundir import RunDirectory
    from vaegan.settings import Budget

    given = {
        "--systems": systems,
        "--latent-dims": latent_dims,
        "--minutes": minutes,
        "--steps": steps,
        "--recipe": recipe,
        "--seeds": seeds,
        "--precision": precision,
        "--set": settings,
    }
    training = [flag for flag, value in given.items() if value is not None]
    if runs and training:
        raise ConfigError(
            f"{', '.join(training)}: how to train, but these runs are finished; leave out one or "
            "the other"
        )
    own_process(threads)
    outdir = outdir or Path("runs") / "compare"
    judges = Judges(cache)
    if runs:
        if (outdir / "budget.json").exists():
            raise RunError(
                f"{outdir} holds a trained ladder, whose results would be replaced: choose "
                "another --outdir"
            )
        headings(runs, [RunDirectory.open(path).config() for path in runs])  # none comes twice
        budget, plans = None, [Plan(path) for path in runs]
    else:
        if minutes is not None and steps is not None:
            raise ConfigError("give only one of --steps and --minutes")
        budget = Budget(steps, None, None if steps else minutes or 5.0)
        recipe = recipe or "default"
        dataset, source = loaded(data or "digits", recipe)
        names = listed("systems", LADDER if systems is None else systems, str)
        sizes = listed("latent-dims", "8" if latent_dims is None else latent_dims, int)
        numbers = listed("seeds", "0" if seeds is None else seeds, int)
        plans = planned(
            dataset,
            outdir,
            [(name, size, one) for name in names for size in sizes for one in numbers],
            recipe=recipe,
            precision=precision or "auto",
            device=device,
            source=source,
            settings=overrides(settings or []),
        )
        claim(outdir, budget)
    found = []
    try:
        for place, plan in enumerate(plans, 1):
            print(f"[{place}/{len(plans)}] {plan.path}", file=sys.stderr)
            if budget is not None and plan.config is not None:
                try:
                    stopped = train_one(plan.path, plan.config, dataset, budget, device, cache)
                except TrainingDiverged as error:  # the others are still worth comparing
                    print(f"left out: {plan.path}: {error}", file=sys.stderr)
                    continue
                if stopped:
                    print("stopped and saved; the same command goes on from here", file=sys.stderr)
                    return 128 + stopped
            opened = open_run(plan.path, data if runs else None, device_named(device))
            found.append(measured_once(opened, judges, n, seed))
    except KeyboardInterrupt:
        print("stopped; nothing is lost: the same command goes on from here", file=sys.stderr)
        return 130
    if not found:
        raise RunError("no run came to its end: there is nothing to compare")
    split = judges.of(open_run(found[0].path, data if runs else None))[0].test
    write(found, split, outdir, budget)
    return 0


@dataclass(frozen=True)
class Plan:
    """A run to come, or one that is there."""

    path: Path
    config: RunConfig | None = None


def loaded(data: str, recipe: str) -> tuple[Dataset, str]:
    """The data set at the recipe's image size, and how to find it again."""
    from vaegan.cli.loading import load_resized
    from vaegan.presets import recipe_named

    return load_resized(data, recipe_named(recipe).image_size)


def planned(
    dataset: Dataset,
    outdir: Path,
    rungs: Sequence[tuple[str, int, int]],
    *,
    recipe: str,
    precision: str,
    device: str,
    source: str,
    settings: dict[str, str],
) -> list[Plan]:
    """Every run's settings, all resolved before the first is trained, so that a mistake shows now.

    The precision is the same for all; runs that are there keep theirs.
    """
    from vaegan.devices import device_named, precision_named
    from vaegan.rundir import RunDirectory
    from vaegan.settings import idle, resolve

    plans = []
    for system, latent_dim, seed in rungs:
        run = RunDirectory(outdir / f"{system}-{latent_dim}-seed{seed}")
        kept = run.config().precision if run.exists and precision == "auto" else precision
        config = resolve(
            dataset,
            system=system,
            recipe=recipe,
            latent_dim=latent_dim,
            seed=seed,
            precision=precision_named(kept, device_named(device)),
            overrides=settings,
            source=source,
        )
        plans.append(Plan(run.path, config))
    configs = [plan.config for plan in plans if plan.config]
    for key in settings:
        if all(idle([key], config) for config in configs):
            raise ConfigError(f"--set {key}: has no effect on any of these systems ({recipe})")
    return plans


def claim(outdir: Path, budget: Budget) -> None:
    """Note the budget of a fresh comparison; RunError when the one here has another."""
    from vaegan.files import write_json
    from vaegan.settings import Budget

    path = outdir / "budget.json"
    if not path.is_file():
        write_json(path, {"minutes": budget.minutes, "steps": budget.steps})
        return
    try:
        there = Budget(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, ConfigError):
        there = None
    if there != budget:
        raise RunError(
            f"{outdir} holds a comparison on another budget ({there or 'unreadable'}): choose "
            "another --outdir"
        )


def train_one(
    path: Path,
    config: RunConfig,
    dataset: Dataset,
    budget: Budget,
    device: str,
    cache: Path | None,
) -> int:
    """Train until the budget is used up, or not at all when it is; the signal that stopped it."""
    from vaegan.cli.progress import Bar
    from vaegan.devices import device_named
    from vaegan.metrics.judge import Judge
    from vaegan.ranks import Ranks
    from vaegan.rundir import RunDirectory
    from vaegan.training import train
    from vaegan.watch import Watch

    run = RunDirectory(path)
    model = config.model
    if finished(run, config, budget):
        return 0
    with Bar(f"training {model.system} {model.latent_dim} ({config.recipe})") as bar:
        watch = Watch(run, Judge.cached(dataset, cache))
        ranks = Ranks(device=device_named(device))
        outcome = train(run, config, dataset, budget, watchers=[bar, watch], ranks=ranks)
    return outcome.interrupted_by


def finished(run: RunDirectory, config: RunConfig, budget: Budget) -> bool:
    """Whether the run here is that of `config`, has used up its budget and was measured: perhaps
    before its end, of which `measured_once` will know.
    """
    if not (run.exists and run.metrics.is_file() and run.weights.is_file()):
        return False
    there = run.config().model_copy(update={"data": config.data})
    reached = trained(run)
    if there != config or not reached:
        return False
    share = budget.share(int(reached["step"]), int(reached["images_seen"]), reached["seconds"])
    return share >= (1 if checkpoint.reached(run.checkpoints) else 0.98)  # rows end before runs


def write(found: Sequence[Run], split: Split, outdir: Path, budget: Budget | None) -> None:
    """compare.json, table.md and the table on stdout; at last the pictures, in `outdir`."""
    from vaegan.cli.scoreboard import explained, show_compared
    from vaegan.evaluation.comparison import curve, entries, markdown, picture
    from vaegan.figures.output import save
    from vaegan.files import replacing, write_json

    columns = entries(found)
    lines = list(explained(columns))
    if budget is not None:
        lines.append(f"every run had {budget} of training")
    write_json(
        outdir / "compare.json", {"about": lines, "entries": [one.as_json() for one in columns]}
    )
    with replacing(outdir / "table.md") as temporary:
        temporary.write_text(markdown(columns, [f"{line}  " for line in lines]), "utf-8")
    show_compared(columns, lines)
    for name in ("compare.json", "table.md"):
        print(outdir / name, file=sys.stderr)
    print(save(picture(columns, split), outdir / "compare.png"), file=sys.stderr)
    if drawn := curve(columns):
        print(save(drawn, outdir / "curve.png"), file=sys.stderr)
    else:
        (outdir / "curve.png").unlink(missing_ok=True)
