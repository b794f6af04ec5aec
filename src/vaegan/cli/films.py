"""`vaegan film`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from vaegan.cli.loading import Opened, open_run
from vaegan.cli.pictures import Label, Run, Side, inverted, labels_of


def film(
    run: Run,
    /,
    *,
    label: Label = None,
    n: Side = 15,
    fps: Annotated[
        int, Parameter(help="Frames a second.", validator=validators.Number(gte=1, lte=60))
    ] = 12,
    out: Annotated[
        Path | None, Parameter(help="Directory to write into; RUN/films when left out.")
    ] = None,
) -> None:
    """The manifold of a class through training, as MP4 and as animated WebP."""
    opened = open_run(run)
    for one in labels_of(opened, label):
        for path in write_films(opened, one, n, fps, out):
            print(path)


def write_films(
    opened: Opened, label: int | None, n: int = 15, fps: int = 12, out: Path | None = None
) -> list[Path]:
    """Both films of a class; their paths."""
    from vaegan import gallery
    from vaegan.cli.progress import tracked
    from vaegan.figures.film import write_film
    from vaegan.films import frame_steps

    name = "manifold" if label is None else f"manifold-{label}"
    total = len(frame_steps(opened.run))
    drawn = gallery.film_frames(opened.run, opened.model, label, n, invert=inverted(opened))
    frames = list(tracked(f"film {name}", drawn, total))
    folder = out or opened.run.films
    return [write_film(frames, folder / f"{name}{kind}", fps) for kind in (".mp4", ".webp")]
