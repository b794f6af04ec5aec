"""`vaegan train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from vaegan.config import RunConfig, System
from vaegan.errors import ConfigError

if TYPE_CHECKING:
    from vaegan.data import Dataset
    from vaegan.ranks import Ranks
    from vaegan.rundir import RunDirectory
    from vaegan.settings import Budget

Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def train(
    *,
    data: str = "digits",
    outdir: Path | None = None,
    system: System = "cvae-gan",
    recipe: str = "default",
    latent_dim: Positive | None = None,
    batch: Annotated[int, Parameter(validator=validators.Number(gte=2))] | None = None,
    image_size: Annotated[int, Parameter(validator=validators.Number(gte=8))] | None = None,
    steps: Positive | None = None,
    epochs: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1e6))] | None = None,
    minutes: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1e6))] | None = None,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: Positive | None = None,
    alarms: bool = True,
    new: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
) -> int:
    """Train a system on a data set; the same command again goes on where it stopped.

    Ctrl-C saves and stops. Give one of --steps, --epochs and --minutes; without any, the recipe's
    own number of steps. A larger number later trains the same run further; where learning rates
    fall over the budget, they rise again to what the larger one asks for.

    On several GPUs or machines: `torchrun --nproc-per-node 4 -m vaegan train ...`. The processes
    share every batch and train the model that one process would; a run goes on with any number.

    Parameters
    ----------
    data
        `digits` (embedded), `mnist`, `fashion-mnist`, a folder that `vaegan data prepare` made, or
        one with the four IDX files (two, without labels).
    outdir
        The run directory; runs/DATA-SYSTEM when left out.
    system
        The rung of the ladder: an objective, with a `c` in front when it is given the labels.
    recipe
        Networks, losses, optimisers and schedule: `default`, `tutorial` (the Keras tutorial,
        quirks included), `tutorial-fixed`, `larsen` (Larsen et al. 2016, 64x64), `dense`.
    latent_dim
        Size of the code; the recipe's (8; larsen 128) when left out.
    batch
        Images a step; the recipe's (64) when left out.
    image_size
        Resize the images to this many pixels a side; larsen's is 64. What was prepared keeps its
        size.
    steps
        Train until this step, counted from the beginning of the run.
    epochs
        Train for so many passes over the training images.
    minutes
        Train for so long; learning rates fall over this budget where the recipe says so.
    seed
        Everything random is a function of this number.
    device
        Where to compute; `auto` takes the first of cuda, mps and cpu that is there.
    precision
        `bf16` computes the networks in bfloat16, weights and losses stay in single precision;
        `auto` does so on CUDA GPUs and CPUs that have bfloat16 instructions.
    threads
        CPU threads; results are bit-identical only between runs with the same number.
    alarms
        Say in plain words, on stderr and in alarms.jsonl, when something goes wrong: a posterior
        collapses, a label is ignored, a discriminator wins; and write what was measured for it to
        looks.jsonl. Costs less than 3 % of the time.
    new
        Throw away the run in the directory and start over.
    dry_run
        Print the settings, sizes and an estimate of time and memory; write nothing.
    settings
        Any other setting, such as `--set objective.kl_weight=2`; repeat for more.
        `--dry-run` prints them all.
    """
    from vaegan.cli.loading import load_resized
    from vaegan.presets import recipe_named

    preset = recipe_named(recipe)
    if sum(given is not None for given in (steps, epochs, minutes)) > 1:
        raise ConfigError("give only one of --steps, --epochs and --minutes")
    dataset, source = load_resized(
        data, image_size or preset.image_size
    )  # before torch, it is slow
    from vaegan.devices import device_named, precision_named
    from vaegan.ranks import joined
    from vaegan.rundir import RunDirectory
    from vaegan.settings import Budget, idle, resolve
    from vaegan.training import follow

    own_process(threads)
    with joined(device_named(device)) as ranks:
        if not ranks.leads:
            if not dry_run:
                follow(dataset, ranks)
            return 0
        run = RunDirectory(outdir or Path("runs") / f"{dataset.name}-{system}")
        chosen = overrides(settings or [])
        if precision == "auto" and run.exists and not new:
            precision = run.config().precision
        config = resolve(
            dataset,
            system=system,
            recipe=recipe,
            latent_dim=latent_dim,
            batch=batch,
            seed=seed,
            precision=precision_named(precision, device_named(device)),
            overrides=chosen,
            source=source,
        )
        for key in idle(chosen, config):
            raise ConfigError(f"--set {key}: has no effect on system {system!r} ({recipe})")
        images = None if epochs is None else epochs * len(dataset.train)
        if steps is images is minutes is None:
            steps = preset.steps
        budget = Budget(steps, images, minutes)
        if dry_run:
            from vaegan.cli.estimate import describe

            describe(config, dataset, budget, ranks.device)
            return 0
        return lead(run, config, dataset, budget, ranks, new=new, alarms=alarms)


def lead(
    run: RunDirectory,
    config: RunConfig,
    dataset: Dataset,
    budget: Budget,
    ranks: Ranks,
    *,
    new: bool,
    alarms: bool,
) -> int:
    """Train under a progress bar, boards and a watch; the exit status."""
    from vaegan.cli.progress import Bar, boards
    from vaegan.metrics.judge import Judge
    from vaegan.training import train as train_run
    from vaegan.watch import Watch

    # A judge that is there reads samples for the alarms; none is trained for them.
    watches = [Watch(run, Judge.cached(dataset))] if alarms else []
    title = f"training {config.model.system} ({config.recipe}) on {dataset.name} in {run.path}"
    with Bar(title if ranks.world == 1 else f"{title}, {ranks.world} processes") as bar:
        outcome = train_run(
            run,
            config,
            dataset,
            budget,
            new=new,
            watchers=[bar, *boards(run), *watches],
            ranks=ranks,
        )
    if not outcome.steps_here:
        print(
            f"nothing to do: {run.path} has {outcome.step} steps already; give a larger budget",
            file=sys.stderr,
        )
    else:
        print(
            f"step {outcome.step}: {outcome.seconds_per_step:.4f} s a step, "
            f"{outcome.images_per_second:.0f} images a second",
            file=sys.stderr,
        )
    if not outcome.interrupted_by and (short := too_short(config, outcome.step)):
        print(f"note: {short}", file=sys.stderr)
    print(run.weights)
    if outcome.interrupted_by:
        print("stopped and saved; the same command goes on from here", file=sys.stderr)
        return 128 + outcome.interrupted_by
    return 0


def too_short(config: RunConfig, step: int) -> str:
    """What is to be said of a run that has come no further than its warm-up, or nothing."""
    if step > config.optimiser.warmup:
        return ""
    return (
        f"{step} steps are too few to be worth a look: learning rates were still rising, over "
        f"{config.optimiser.warmup} steps; give a larger budget "
        "(on a busy machine --threads 1 makes more steps a minute)"
    )


def own_process(threads: int | None) -> None:
    """Set this process up for training: its threads, and memory that it keeps.

    ConfigError for more threads than the machine has cores: a step then takes many times as long.
    """
    cores = os.cpu_count() or 1
    if threads and threads > cores:
        raise ConfigError(f"--threads {threads}: this machine has {cores} cores; give at most that")
    import torch

    from vaegan.allocator import keep_memory

    keep_memory()
    if threads:
        torch.set_num_threads(threads)


def overrides(pairs: list[str]) -> dict[str, str]:
    """``["a.b=1"]`` -> ``{"a.b": "1"}``."""
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: expected KEY=VALUE, as in objective.kl_weight=2")
        parsed[key] = value
    return parsed
