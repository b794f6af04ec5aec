"""`vaegan compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from vaegan.cli.evaluate import Images, Judges, measured
from vaegan.cli.loading import Opened, open_run
from vaegan.cli.pictures import Seed
from vaegan.cli.train import Positive, overrides
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
    systems: str = LADDER,
    latent_dims: str = "8",
    minutes: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1e6))] | None = None,
    steps: Positive | None = None,
    recipe: str = "default",
    seeds: str = "0",
    outdir: Path | None = None,
    n: Images = 10_000,
    seed: Seed = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: Positive | None = None,
    cache: Path | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
) -> int:
    """Train systems on one budget with the same networks, measure them, and show them together.

    The same command again goes on where it stopped and skips what is finished. Given finished
    runs, it trains nothing. Writes compare.json, table.md and compare.png, and prints the table.

    Parameters
    ----------
    runs
        Finished runs to compare in place of training any.
    data
        `digits` (embedded, when left out), `mnist`, `fashion-mnist`, or a folder with the four IDX
        files. With finished runs: another data set, or their own at a new place.
    systems
        Rungs of the ladder, between commas.
    latent_dims
        Sizes of the code, between commas; every system is trained with each.
    minutes
        Training time of each run; 5 when neither this nor --steps is given.
    steps
        Steps of each run, in place of --minutes.
    recipe
        Networks, losses, optimisers and schedule, as for `train`.
    seeds
        Seeds, between commas; several give means and intervals over the runs.
    outdir
        Where runs and results go; runs/compare when left out.
    n
        Test images to measure on, and images to generate of each kind.
    seed
        Which draws to measure with.
    device
        Where to train; `auto` takes the first of cuda, mps and cpu that is there.
    precision
        As for `train`.
    threads
        CPU threads.
    cache
        Where judges are kept; VAEGAN_CACHE or the user's cache when left out.
    settings
        Any other setting for every run, such as `--set objective.kl_weight=2`.
    """
    from vaegan.settings import Budget
    from vaegan.training import device_named

    if threads:
        import torch

        torch.set_num_threads(threads)
    outdir = outdir or Path("runs") / "compare"
    judges = Judges(cache)
    if runs:
        budget, plans = None, [Plan(path) for path in runs]
    else:
        if minutes is not None and steps is not None:
            raise ConfigError("give only one of --steps and --minutes")
        budget = Budget(steps, None, None if steps else minutes or 5.0)
        dataset, source = loaded(data or "digits", recipe)
        names, sizes = listed("systems", systems, str), listed("latent-dims", latent_dims, int)
        numbers = listed("seeds", seeds, int)
        plans = planned(
            dataset,
            outdir,
            [(name, size, one) for name in names for size in sizes for one in numbers],
            recipe=recipe,
            precision=precision,
            device=device,
            source=source,
            settings=overrides(settings or []),
        )
        claim(outdir, {"minutes": budget.minutes, "steps": budget.steps})
    found = []
    for place, plan in enumerate(plans, 1):
        print(f"[{place}/{len(plans)}] {plan.path}", file=sys.stderr)
        if budget is not None and plan.config is not None:
            try:
                stopped = train_one(plan.path, plan.config, dataset, budget, device)
            except TrainingDiverged as error:  # the others are still worth comparing
                print(f"left out: {plan.path}: {error}", file=sys.stderr)
                continue
            if stopped:
                print("stopped and saved; the same command goes on from here", file=sys.stderr)
                return 128 + stopped
        opened = open_run(plan.path, data if runs else None, device_named(device))
        found.append(measured_once(opened, judges, n, seed))
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


def listed(flag: str, text: str, kind: type[Any]) -> list[Any]:
    """``"2,8"`` -> [2, 8]; ConfigError that quotes the entry."""
    try:
        found = [kind(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"--{flag} {text}: expected whole numbers between commas") from None
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"--{flag} {text}: name each once, between commas")
    return found


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
    from vaegan.rundir import RunDirectory
    from vaegan.settings import resolve
    from vaegan.training import device_named, precision_named

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
    return plans


def claim(outdir: Path, budget: dict[str, float | None]) -> None:
    """Note the budget of a fresh comparison; RunError when the one here has another."""
    from vaegan.files import write_json

    path = outdir / "budget.json"
    if path.is_file():
        try:
            there = json.loads(path.read_text("utf-8"))
        except ValueError:
            there = None
        if there != budget:
            raise RunError(
                f"{outdir} holds a comparison on another budget ({there}): choose another --outdir"
            )
        return
    write_json(path, budget)


def train_one(path: Path, config: RunConfig, dataset: Dataset, budget: Budget, device: str) -> int:
    """Train until the budget is used up, or not at all when it is; the signal that stopped it."""
    from vaegan.cli.progress import Bar
    from vaegan.rundir import RunDirectory
    from vaegan.training import device_named, train
    from vaegan.watch import Watch, cached_judge

    run = RunDirectory(path)
    model = config.model
    if finished(run, config, budget):
        return 0
    with Bar(f"training {model.system} {model.latent_dim} ({config.recipe})") as bar:
        watch = Watch(run, cached_judge(dataset))
        outcome = train(
            run, config, dataset, budget, device=device_named(device), watchers=[bar, watch]
        )
    return outcome.interrupted_by


def finished(run: RunDirectory, config: RunConfig, budget: Budget) -> bool:
    """Whether the run here is that of `config`, has used up its budget and was measured since."""
    if not (run.exists and run.metrics.is_file() and run.weights.is_file()):
        return False
    there = run.config().model_copy(update={"data": config.data})
    rows = run.rows()
    if there != config or not rows:
        return False
    last = rows[-1]
    return budget.share(last["step"], last["images_seen"], last["seconds"]) >= 0.98


def measured_once(opened: Opened, judges: Judges, n: int, seed: int) -> Run:
    """The run's metrics.json if it is of this model, judge, n and seed; else measured now."""
    from vaegan.evaluation.comparison import Run
    from vaegan.evaluation.scores import Scores

    dataset, judge = judges.of(opened)
    file, rows = opened.run.metrics, opened.run.rows()
    if file.is_file() and file.stat().st_mtime >= opened.run.weights.stat().st_mtime:
        scores = Scores.read(file)
        about = scores.about
        same = (
            about["data_fingerprint"] == dataset.fingerprint
            and about["extractor_about"] == str(judge)
            and about["asked_images"] == n
            and about["seed"] == seed
            and about.get("trained", {}).get("step") == (rows[-1]["step"] if rows else None)
        )
        if same:
            return Run(opened.run.path, scores, opened.model)
    scores = measured(opened, judges, n, seed)
    scores.write(file)
    return Run(opened.run.path, scores, opened.model)


def write(found: Sequence[Run], split: Split, outdir: Path, budget: Budget | None) -> None:
    """compare.json, table.md and compare.png in `outdir`; the table on stdout."""
    from vaegan.cli.scoreboard import described, show_compared
    from vaegan.evaluation.comparison import entries, markdown, picture
    from vaegan.figures.output import save
    from vaegan.files import replacing, write_json

    rows = entries(found)
    lines = list(described([run.scores for run in rows[0].runs]))
    if budget is not None:
        limit = f"{budget.steps:,} steps" if budget.steps else f"{budget.minutes:g} minutes"
        lines.append(f"every run had {limit} of training")
    write_json(
        outdir / "compare.json", {"about": lines, "entries": [row.as_json() for row in rows]}
    )
    with replacing(outdir / "table.md") as temporary:
        temporary.write_text(markdown(rows, [f"{line}  " for line in lines]), "utf-8")
    save(picture(rows, split), outdir / "compare.png")
    show_compared(rows, lines)
    for name in ("compare.json", "table.md", "compare.png"):
        print(outdir / name, file=sys.stderr)
