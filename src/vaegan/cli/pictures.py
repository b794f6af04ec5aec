"""The verbs that draw one kind of picture each, from a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from vaegan.cli.loading import Opened, open_run
from vaegan.errors import ConfigError, DataError, Unsupported
from vaegan.pretrained import shipped

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from vaegan.data import Split

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

DARK, LIGHT = 64, 191
"""Grey levels of a ground that is plainly one or the other."""

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
    invert: Annotated[
        bool, Parameter(help="Turn dark --images bright and bright ones dark.", negative="")
    ] = False,
    n: Count = 12,
    seed: Seed = 0,
    data: Data = None,
    out: Out = None,
) -> None:
    """Render the style of images in every class: the tutorial's last figure.

    Either n test images of each class, or of --label alone; or your own --images, which show
    --from-label. A model that comes with the package takes draws of its own where its data set is
    not at hand.
    """
    from vaegan import gallery
    from vaegan.images import to_pixels

    opened = open_run(run, data)
    system, encoder = opened.model.config.system, opened.model.encoder
    if encoder is None or not opened.model.config.num_classes:
        lacks = "no labels to transfer between" if encoder or system == "gan" else "no encoder"
        raise Unsupported(f"system {system!r} has {lacks}; train cvae-gan")
    if images is None and (resize or invert):
        raise ConfigError("--resize and --invert are for --images")
    if (label is not None and images is not None) or (images is None and from_label is not None):
        raise ConfigError("give either --label, or --images with --from-label")
    if images is not None:
        if from_label is None:
            raise ConfigError("--images needs --from-label: the class that they show")
        labels_of(opened, from_label)
        pixels = _own_images(opened, images, resize=resize, invert=invert)
        picture = gallery.transfer(opened.model, pixels, from_label, invert=inverted(opened))
        write(picture, opened, f"transfer-images-{from_label}", out)
        return
    if out and out.suffix and len(labels_of(opened, label)) > 1:
        raise ConfigError(f"--out {out}: without --label there are several; give a folder")
    test = _test_images(opened) if shipped(run) and data is None else opened.dataset().test
    for one in labels_of(opened, label):
        assert one is not None
        name, origin = f"transfer-{one}", "the originals"
        if test is None:
            pixels = to_pixels(opened.model.sample(n, one, seed=seed))
            name, origin = f"{name}-draws", "draws from the prior"
        else:
            try:
                pixels = gallery.of_class(test, one, n, seed)
            except DataError as error:
                if label is not None:
                    raise
                print(f"note: {error}", file=sys.stderr)
                continue
        picture = gallery.transfer(
            opened.model, pixels, one, origin=origin, invert=inverted(opened)
        )
        write(picture, opened, name, out if label is not None else _in(out, name))


def _test_images(opened: Opened) -> Split | None:
    """The test images of a model that comes with the package, or None, and a note."""
    try:
        return opened.dataset().test
    except DataError as error:
        print(
            f"note: {error}; until then, styles are those of the model's own draws", file=sys.stderr
        )
        return None


def _own_images(opened: Opened, files: list[Path], *, resize: bool, invert: bool) -> np.ndarray:
    """Image files, uint8 (N, H, W, C), with a note where their ground is not the model's.

    DataError for files that cannot be used or are of one colour.
    """
    import torch

    from vaegan.images import edge_level, outline, read_image_files, to_pixels

    config = opened.model.config
    usual = opened.model.decode(torch.zeros(1, config.latent_dim), torch.zeros(1).long())
    level = edge_level(to_pixels(usual)[0])
    assert level is not None
    ground = 255 if level >= LIGHT else 0
    wanted = 255 - ground if invert else ground
    pixels = read_image_files(
        files, config.image_size, config.channels, resize=resize, ground=wanted
    )
    for path in files:
        edge, blank = outline(path)
        if blank:
            raise DataError(f"{str(path)!r} is all of one colour: there is no style in it")
        plain = config.channels == 1 and not DARK < level < LIGHT
        if plain and edge is not None and abs(edge - wanted) > 127:
            theirs, ours = ("light", "dark") if edge > 127 else ("dark", "light")
            how = "without" if invert else "with"
            print(
                f"note: {path} has a {theirs} ground where {ours} is wanted: try {how} --invert",
                file=sys.stderr,
            )
    return 255 - pixels if invert else pixels


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
