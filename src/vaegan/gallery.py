"""Every picture of a trained model: the tutorial's, and those it should have had.

Each function takes a model and a split of images and returns one Pillow image; the command line
saves it, a notebook shows it. Which pictures a system can have is in `cli.report.album`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vaegan.data import Split
from vaegan.errors import DataError, Unsupported
from vaegan.figures.film import manifold_frame
from vaegan.figures.scatter import scatter
from vaegan.figures.sheet import sheet
from vaegan.films import frame_steps, frames
from vaegan.images import to_images, to_pixels
from vaegan.inference import encode_pixels
from vaegan.metrics.latents import kl_per_dimension
from vaegan.model import Model
from vaegan.randomness import generator
from vaegan.rundir import RunDirectory

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "film_frames",
    "interpolations",
    "latents",
    "manifold",
    "reconstructions",
    "samples",
    "transfer",
]


def reconstructions(model: Model, split: Split, n: int = 12, seed: int = 0) -> Image.Image:
    """Originals above, reconstructions below, n pairs a row; every class in turn."""
    rows = 4
    chosen = _in_turn(split, rows * n, seed)
    pixels = split.pixels[chosen]
    rebuilt = to_pixels(
        model.reconstruct(_images(model, pixels), _labels(model, split.labels, chosen))
    )
    pairs = np.stack(
        [pixels.reshape(rows, n, *pixels.shape[1:]), rebuilt.reshape(rows, n, *pixels.shape[1:])], 1
    )
    return sheet(
        pairs.reshape(2 * rows, n, *pixels.shape[1:]),
        title="Reconstructions of test images",
        subtitle=f"above: original, below: reconstruction · {_described(model)}",
        groups=range(1, 2 * rows - 1, 2),
        invert=model.config.channels == 1,
    )


def samples(
    model: Model,
    label: int | None = None,
    n: int = 12,
    seed: int = 0,
    temperature: float | None = None,
    *,
    invert: bool = True,
) -> Image.Image:
    """Draws from the prior: n of one class, or a row of n for every class.

    Column k of every row is the same draw, seed + k: one style down each column. `temperature` is
    the model's when left out.
    """
    names, size = model.config.class_names, model.config.image_shape
    shape = (size[1], size[2], size[0])
    prior = "the prior" if temperature is None else f"the prior at temperature {temperature:g}"

    def drawn(n: int, label: int | None) -> np.ndarray:
        return to_pixels(model.sample(n, label, seed=seed, temperature=temperature))

    if names and label is None:
        rows = [drawn(n, row) for row in range(len(names))]
        return sheet(
            np.stack(rows),
            title="Samples of every class",
            subtitle=f"each column is one draw from {prior} · {_described(model)}",
            row_labels=names,
            invert=invert,
        )
    columns = min(n, 10 if not names else 16)
    pixels = drawn(-(-n // columns) * columns, label)
    title = "Samples" if label is None else f"Samples of {_name(model, label)}"
    if len(pixels) > n:  # fill the last row with the page's ground
        pixels[n:] = 0 if invert else 255
    return sheet(
        pixels.reshape(-1, columns, *shape),
        title=title,
        subtitle=f"draws from {prior}, seeds {seed} to {seed + n - 1} · {_described(model)}",
        invert=invert,
    )


def transfer(
    model: Model,
    pixels: np.ndarray,
    label: int,
    *,
    origin: str = "the originals",
    invert: bool = True,
) -> Image.Image:
    """Images of one class rendered in every class: the source row is framed.

    `pixels` (K, H, W, C) uint8 are all of class `label`; column k shows the style of image k.
    `origin` says in the picture what they are.
    """
    names = model.config.class_names
    if not names:
        raise Unsupported(
            f"system {model.config.system!r} has no labels to transfer between; train cvae-gan"
        )
    _name(model, label)
    images = _images(model, pixels)
    own = torch.full((len(images),), label)
    rows = [to_pixels(model.transfer(images, own, own * 0 + to)) for to in range(len(names))]
    rows[label] = pixels
    return sheet(
        np.stack(rows),
        title=f"The style of each {names[label]}, in every class",
        subtitle=f"framed: {origin} · {_described(model)}",
        row_labels=names,
        highlight_rows=[label],
        invert=invert,
    )


def manifold(
    model: Model,
    label: int | None = None,
    n: int = 15,
    dims: tuple[int, int] | None = None,
    *,
    invert: bool = True,
) -> Image.Image:
    """N x n images over two dimensions of the prior at the normal quantiles 0.05 .. 0.95."""
    if model.config.family == "ae":
        raise Unsupported(f"system {model.config.system!r} has no prior to lay a grid over")
    pixels = to_pixels(model.manifold(label, n, dims))
    one, other = dims or (0, min(1, model.config.latent_dim - 1))
    plane = f"along: dimension {one + 1} of the prior, down: {other + 1}"
    of = "" if not model.config.num_classes else f" of {_name(model, label or 0)}"
    return sheet(
        pixels.reshape(n, n, *pixels.shape[1:]),
        title=f"Manifold{of}",
        subtitle=f"{plane}, at the normal quantiles 0.05 to 0.95 · {_described(model)}",
        gap=0,
        scale=2,
        invert=invert,
    )


def interpolations(model: Model, split: Split, n: int = 12, seed: int = 0) -> Image.Image:
    """From one test image to another of its class, in n steps along the line between their codes.

    The first and the last column are the originals.
    """
    names = model.config.class_names
    count = len(names) if names else 8
    own = generator(seed, "ends")
    rows = []
    for row in range(count):
        pool = np.arange(len(split))
        if names and split.labels is not None:
            pool = np.flatnonzero(split.labels == row)
        if len(pool) < 2:
            of = f" of class {names[row]}" if names else ""
            raise DataError(f"there are fewer than two test images{of}")
        ends = split.pixels[pool[torch.randperm(len(pool), generator=own)[:2].numpy()]]
        labels = torch.full((2,), row) if names else None
        start, end = model.embed(_images(model, ends), labels)
        between = to_pixels(model.interpolate(start, end, n, row if names else None))
        rows.append(np.concatenate([ends[:1], between, ends[1:]]))
    return sheet(
        np.stack(rows),
        title="Between two images" + (" of one class" if names else ""),
        subtitle=f"first and last column: originals · {_described(model)}",
        row_labels=names or None,
        column_labels=["from", *[""] * n, "to"],
        invert=model.config.channels == 1,
    )


def latents(model: Model, split: Split, n: int = 5000) -> Image.Image:
    """Posterior means of up to n test images, one colour a class."""
    chosen = np.arange(min(n, len(split)))
    labels = None if split.labels is None else split.labels[chosen]
    posterior = encode_pixels(model, split.pixels[chosen], labels)
    means, logvars = posterior.mean.numpy(), posterior.logvar
    return scatter(
        means,
        labels,
        class_names=model.config.class_names,
        kl=None if logvars is None else kl_per_dimension(means, logvars.numpy()),
        title=f"Posterior means of {len(chosen):,} test images",
        prior=logvars is not None,
    )


def film_frames(
    run: RunDirectory, model: Model, label: int | None, n: int = 15, *, invert: bool = True
) -> Iterator[Image.Image]:
    """The manifold of a class through training, one frame for every film weight."""
    if model.config.family == "ae":
        raise Unsupported(f"system {model.config.system!r} has no prior to lay a grid over")
    last = frame_steps(run)[-1]
    name = _name(model, label or 0) if model.config.num_classes else None
    for step, snapshot in frames(run, model):
        pixels = to_pixels(snapshot.manifold(label, n))
        grid = pixels.reshape(n, n, *pixels.shape[1:])
        yield manifold_frame(grid, name, step, last_step=last, invert=invert)


def of_class(split: Split, label: int, n: int, seed: int = 0) -> np.ndarray:
    """Pixels of n random images of a class, (n, H, W, C); DataError when it has none."""
    pool = np.flatnonzero(split.labels == label) if split.labels is not None else np.empty(0)
    if not len(pool):
        raise DataError(f"no test image has label {label}")
    order = torch.randperm(len(pool), generator=generator(seed, "choice")).numpy()
    return split.pixels[pool[order[:n]].astype(int)]


def _in_turn(split: Split, n: int, seed: int) -> np.ndarray:
    """Indices of n images, the classes taking turns so that every row shows them all."""
    order = torch.randperm(len(split), generator=generator(seed, "choice")).numpy()
    if split.labels is None:
        return np.resize(order, n)
    labels = split.labels[order]
    turn = np.empty(len(order), np.int64)
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(own.sum())
    return np.resize(order[np.lexsort((labels, turn))], n)


def _images(model: Model, pixels: np.ndarray) -> Tensor:
    """Pixels as the model's images; DataError where the size is not the model's."""
    height, width = model.config.image_size
    if pixels.shape[1:] != (height, width, model.config.channels):
        raise DataError(
            f"images are {pixels.shape[1]}x{pixels.shape[2]} with {pixels.shape[3]} channels; "
            f"this model takes {height}x{width} with {model.config.channels}"
        )
    return to_images(pixels, model.device)


def _labels(model: Model, labels: np.ndarray | None, chosen: np.ndarray) -> Tensor | None:
    if not model.config.num_classes or labels is None:
        return None
    return torch.from_numpy(labels[chosen]).to(model.device)


def _name(model: Model, label: int) -> str:
    names = model.config.class_names
    if not 0 <= label < len(names):
        raise DataError(
            f"label {label} is out of range: this model has "
            + (f"labels 0 to {len(names) - 1}" if names else "no labels")
        )
    return names[label]


def _described(model: Model) -> str:
    return f"{model.config.system}, {model.config.latent_dim} latents"
