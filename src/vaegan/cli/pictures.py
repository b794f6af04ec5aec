"""The verbs that draw one kind of picture each, from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from vaegan.cli.loading import Opened, open_run
from vaegan.errors import ConfigError, DataError, Unsupported

if TYPE_CHECKING:
    from PIL import Image

Run = Annotated[
    Path,
    Parameter(help="The run directory that `vaegan train` wrote, or `mnist`, which is at hand."),
]
Out = Annotated[Path | None, Parameter(help="Where to write; RUN/figures/... when left out.")]
Data = Annotated[str | None, Parameter(help="Another data set, or the run's own at a new place.")]
Count = Annotated[int, Parameter(help="How many.", validator=validators.Number(gte=1, lte=1000))]
Seed = Annotated[int, Parameter(help="Which random choice.", validator=validators.Number(gte=0))]
Label = Annotated[
    int | None,
    Parameter(
        help="Number of the class; every class when left out.", validator=validators.Number(gte=0)
    ),
]

Side = Annotated[int, Parameter(help="Images a side.", validator=validators.Number(gte=2, lte=40))]


def reconstruct(
    run: Run, /, *, n: Count = 12, seed: Seed = 0, data: Data = None, out: Out = None
) -> None:
    """Test images above, their reconstructions below, n pairs a row."""
    from vaegan import gallery

    opened = open_run(run, data)
    picture = gallery.reconstructions(opened.model, opened.dataset().test, n, seed)
    write(picture, opened, "reconstructions", out)


def transfer(
    run: Run,
    /,
    *,
    label: Label = None,
    images: Annotated[
        list[Path] | None,
        Parameter(help="Image files of your own to render.", consume_multiple=True, negative=""),
    ] = None,
    from_label: Annotated[int | None, Parameter(help="The class that --images show.")] = None,
    resize: Annotated[
        bool, Parameter(help="Bring --images to the model's size.", negative="")
    ] = False,
    n: Count = 12,
    seed: Seed = 0,
    data: Data = None,
    out: Out = None,
) -> None:
    """Render the style of images in every class: the tutorial's last figure.

    Either n test images of the class --label, or your own --images, which show --from-label.
    """
    from vaegan import gallery
    from vaegan.images import read_image_files

    opened = open_run(run, data)
    system, encoder = opened.model.config.system, opened.model.encoder
    if encoder is None or not opened.model.config.num_classes:
        lacks = "no labels to transfer between" if encoder or system == "gan" else "no encoder"
        raise Unsupported(f"system {system!r} has {lacks}; train cvae-gan")
    if (label is None) == (images is None) or (label is not None and from_label is not None):
        raise ConfigError("give either --label, or --images with --from-label")
    if images is not None:
        if from_label is None:
            raise ConfigError("--images needs --from-label: the class that they show")
        config = opened.model.config
        pixels = read_image_files(images, config.image_size, config.channels, resize=resize)
        label, name = from_label, f"transfer-images-{from_label}"
    else:
        assert label is not None
        if label >= max(opened.model.config.num_classes, 1):
            raise DataError(
                f"label {label} is out of range: this model has "
                f"{opened.model.config.num_classes} classes"
            )
        pixels = gallery.of_class(opened.dataset().test, label, n, seed)
        name = f"transfer-{label}"
    picture = gallery.transfer(opened.model, pixels, label, invert=inverted(opened))
    write(picture, opened, name, out)


def manifold(
    run: Run,
    /,
    *,
    label: Label = None,
    n: Side = 15,
    dims: Annotated[
        tuple[int, int] | None,
        Parameter(
            help="The two latents to vary, counted from 0; the first two when left out.",
            negative="",
        ),
    ] = None,
    out: Out = None,
) -> None:
    """N x n images over two latents at the normal quantiles 0.05 .. 0.95, the others 0."""
    from vaegan import gallery

    opened = open_run(run)
    if out and out.suffix and len(labels_of(opened, label)) > 1:
        raise ConfigError(f"--out {out}: without --label there are several; give a folder")
    for one in labels_of(opened, label):
        picture = gallery.manifold(opened.model, one, n, dims, invert=inverted(opened))
        name = "manifold" if one is None else f"manifold-{one}"
        write(picture, opened, name, out if label is not None or one is None else _in(out, name))


def interpolate(
    run: Run, /, *, n: Count = 12, seed: Seed = 0, data: Data = None, out: Out = None
) -> None:
    """From one test image to another of its class, in n steps between their codes."""
    from vaegan import gallery

    opened = open_run(run, data)
    picture = gallery.interpolations(opened.model, opened.dataset().test, n, seed)
    write(picture, opened, "interpolations", out)


def latents(
    run: Run,
    /,
    *,
    n: Annotated[
        int, Parameter(help="How many test images.", validator=validators.Number(gte=2))
    ] = 5000,
    data: Data = None,
    out: Out = None,
) -> None:
    """Scatter of the posterior means of test images, one colour a class."""
    from vaegan import gallery

    opened = open_run(run, data)
    write(gallery.latents(opened.model, opened.dataset().test, n), opened, "latents", out)


def labels_of(opened: Opened, label: int | None) -> list[int | None]:
    """The asked label, every label, or a single None for an unconditional model."""
    classes = opened.model.config.num_classes
    if label is not None:
        if label >= classes:
            raise DataError(
                f"label {label} is out of range: this model has "
                + (f"labels 0 to {classes - 1}" if classes else "no labels")
            )
        return [label]
    return list(range(classes)) if classes else [None]


def inverted(opened: Opened) -> bool:
    """Print grey images as ink on paper; colour as it is."""
    return opened.model.config.channels == 1


def write(picture: Image.Image, opened: Opened, name: str, out: Path | None) -> Path:
    """Save a picture and print its path: RUN/figures/NAME.png, or where --out says."""
    from vaegan.figures.output import save

    path = save(picture, out or opened.run.figures / f"{name}.png")
    print(path)
    return path


def _in(out: Path | None, name: str) -> Path | None:
    """One file of several: --out names their directory."""
    return None if out is None else out / f"{name}.png"
