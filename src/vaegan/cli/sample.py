"""`vaegan sample`: a picture of samples, or the samples themselves."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from vaegan.cli.loading import Opened, open_run
from vaegan.cli.pictures import Label, Out, Run, Seed, inverted, write
from vaegan.errors import ConfigError

PICTURED = 1000


def sample(
    run: Run,
    /,
    *,
    label: Label = None,
    n: Annotated[
        int,
        Parameter(
            help=f"How many; a picture holds up to {PICTURED}.",
            validator=validators.Number(gte=1, lte=100_000_000),
        ),
    ] = 12,
    seed: Seed = 0,
    temperature: Annotated[
        float | None,
        Parameter(
            help="How varied: 1 draws from the prior itself, more is bolder, less more usual; the "
            "model's own when left out.",
            validator=validators.Number(gt=0, lte=4),
        ),
    ] = None,
    out: Out = None,
    to: Annotated[
        Path | None,
        Parameter(
            help="Write the images themselves, and no picture: into a folder, or a file that ends "
            "in .npy."
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None,
        Parameter(
            help="Where to compute; when left out, the cpu for a picture and `auto`, the first of "
            "cuda, mps and cpu that is there, with --to."
        ),
    ] = None,
) -> int:
    """Draw from the prior: n images of a class, or a row of n for every class.

    Image k depends on seed + k alone: seed 7 is the same picture in any batch (and with --to of the
    same class, where --label names none: 7 modulo the number of classes).

    With --to, n images in all, each on its own, all classes in turn: DEST/CLASS/SEED.png, or
    DEST.npy, uint8 (N, H, W, C), with the labels in DEST-labels.npy. Memory does not grow with n. A
    folder goes on where it was stopped.
    """
    from vaegan import gallery
    from vaegan.devices import device_named

    if to is not None and out is not None:
        raise ConfigError("give --out for a picture or --to for the images themselves, not both")
    if to is None and n > PICTURED:
        raise ConfigError(
            f"--n {n}: a picture holds up to {PICTURED}; write the images themselves with --to DEST"
        )
    where = device_named(device or ("cpu" if to is None else "auto"))
    opened = open_run(run, device=where)
    if to is not None:
        return write_samples(opened, to, n, label, seed, temperature)
    picture = gallery.samples(opened.model, label, n, seed, temperature, invert=inverted(opened))
    name = "samples" if label is None else f"samples-{label}"
    write(picture, opened, name if temperature is None else f"{name}-t{temperature:g}", out)
    return 0


def write_samples(
    opened: Opened, to: Path, n: int, label: int | None, seed: int, temperature: float | None
) -> int:
    """Write n images with a progress bar, and print where they are; exit code 130 on Ctrl-C."""
    from vaegan.batching import BATCH
    from vaegan.cli.progress import tracked
    from vaegan.sampling import labels_beside, write_array, write_folder

    array = to.suffix.lower() == ".npy"
    writer = write_array if array else write_folder
    writing = writer(opened.model, to, n, label, seed, temperature)
    began, written = time.perf_counter(), 0
    try:
        with closing(writing) as batches:
            for count in tracked(f"{n:,} samples", batches, -(-n // BATCH)):
                written += count
    except KeyboardInterrupt:
        left = "nothing was written" if array else "the same command goes on from here"
        print(f"stopped; {left}", file=sys.stderr)
        return 130
    there = f", {n - written:,} were there" if written < n else ""
    rate = written / (time.perf_counter() - began)
    print(f"{written:,} images written{there}; {rate:,.0f} a second", file=sys.stderr)
    print(to)
    if array and opened.model.config.num_classes:
        print(labels_beside(to))
    return 0
