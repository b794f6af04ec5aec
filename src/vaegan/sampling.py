"""Many samples, written as they are drawn: a PNG each, or one array; in bounded memory.

    FOLDER/CLASS/SEED.png   FOLDER/SEED.png without classes; FOLDER/samples.json names the model
    NAME.npy                uint8 (N, H, W, C); NAME-labels.npy, int64 (N,), where there are classes

Every image is that of `Model.sample` of its seed, under all classes in turn or one.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from vaegan.batching import BATCH
from vaegan.errors import RunError
from vaegan.files import replacing, write_json
from vaegan.inference import sample_pixels
from vaegan.model import Model
from vaegan.randomness import latents_of_seeds

__all__ = ["class_folders", "labels_beside", "write_array", "write_folder"]

END = b"IEND\xaeB`\x82"
"""The last bytes of every PNG."""

Seeds = range
"""The k of some images, one after the other."""


def write_folder(
    model: Model,
    folder: Path,
    n: int,
    label: int | None = None,
    seed: int = 0,
    temperature: float | None = None,
) -> Generator[int, None, None]:
    """Write n samples, a PNG each; yields, after every batch, how many of it were written.

    Files that are there and whole are kept: whoever was stopped goes on, and gets the same bytes as
    whoever was not. Raises Unsupported or DataError for what the model cannot sample, RunError for
    a folder of other things or of another model's samples, and for what cannot be written.
    """
    model.labels_of_samples(range(1), label)
    claim(folder, model, temperature)
    places = [folder / name for name in class_folders(model.config.class_names)] or [folder]
    for seeds in batches(n, seed):
        labels = labels_of(model, seeds, label)
        under = [0] * len(seeds) if labels is None else labels.tolist()
        paths = [places[y] / f"{one}.png" for y, one in zip(under, seeds)]
        missing = [i for i, path in enumerate(paths) if not whole(path, model.config.image_shape)]
        if missing:  # draw the whole batch though one is missing: its bits depend on the batch
            pixels = draw(model, seeds, labels, temperature)
            for i in missing:
                with replacing(paths[i], sync=False) as temporary:
                    grey = pixels.shape[3] == 1
                    image = Image.fromarray(pixels[i, ..., 0] if grey else pixels[i])
                    image.save(temporary, format="PNG")
        yield len(missing)


def write_array(
    model: Model,
    path: Path,
    n: int,
    label: int | None = None,
    seed: int = 0,
    temperature: float | None = None,
) -> Generator[int, None, None]:
    """Write n samples into one .npy file; yields, after every batch, how many were written.

    The file and that of the labels appear when all is written, or not at all: on the way there is
    no more in memory than a batch. Raises Unsupported or DataError for what the model cannot
    sample, RunError for a file that is there already and for what cannot be written.
    """
    arrays: dict[Path, tuple[str, tuple[int, ...]]] = {
        path: ("|u1", (n, *model.config.image_size, model.config.channels))
    }
    if model.labels_of_samples(range(1), label) is not None:
        arrays[labels_beside(path)] = ("<i8", (n,))
    for target in arrays:
        if target.exists():
            raise RunError(f"{target} is there already: remove it, or give another name")
    with ExitStack() as stack:
        # The last is renamed first: where there are images, there are labels.
        temporaries = [stack.enter_context(replacing(target)) for target in arrays]
        # Files rather than memory maps: a full disk is then an error, and not a crash.
        files = [stack.enter_context(temporary.open("wb")) for temporary in temporaries]
        for file, (kind, shape) in zip(files, arrays.values()):
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for seeds in batches(n, seed):
            labels = labels_of(model, seeds, label)
            files[0].write(draw(model, seeds, labels, temperature).tobytes())
            if labels is not None:
                files[1].write(labels.astype("<i8").tobytes())
            yield len(seeds)


def labels_beside(path: Path) -> Path:
    """Where the labels of the images in NAME.npy are: NAME-labels.npy."""
    return path.with_name(f"{path.stem}-labels.npy")


def class_folders(names: tuple[str, ...]) -> list[str]:
    """A folder's name for every class: its own, or as much of it as a file system takes.

    Two that would be one, to a file system that knows no capitals, have their numbers in front.
    """
    plain = [re.sub(r'[/\\:*?"<>|\x00-\x1f]', "-", name).strip(" .") for name in names]
    if not all(plain) or len({name.casefold() for name in plain}) < len(plain):
        plain = [f"{label} {name}".strip() for label, name in enumerate(plain)]
    return plain


# ── batches ──────────────────────────────────────────────────────────────────────────────────────


def batches(n: int, seed: int) -> Iterator[Seeds]:
    """The seeds of n draws in batches that begin where those of `Model.sample` do."""
    end = seed + n
    return (range(start, min(start + BATCH, end)) for start in range(seed, end, BATCH))


def labels_of(model: Model, seeds: Seeds, label: int | None) -> np.ndarray | None:
    """Labels of the images of these seeds, int64 (B,); None without labels."""
    labels = model.labels_of_samples(seeds, label)
    return None if labels is None else labels.cpu().numpy()


def draw(
    model: Model,
    seeds: Seeds,
    labels: np.ndarray | None,
    temperature: float | None = None,
) -> np.ndarray:
    """The images of these seeds, uint8 (B, H, W, C)."""
    normal = latents_of_seeds(seeds, model.config.latent_dim)
    return sample_pixels(model, normal, labels, temperature=temperature)


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


def claim(folder: Path, model: Model, temperature: float | None) -> None:
    """Make the folder, or see that it holds samples of this model; RunError when it does not."""
    about = folder / "samples.json"
    ours: dict[str, object] = {"system": model.config.system, "model_sha256": digest(model)}
    if model.config.num_classes:
        ours["labels"] = "the one asked for, or seed modulo classes"
    if temperature is not None:
        ours["temperature"] = temperature
    if not about.is_file():
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file: give a folder, or a name that ends in .npy")
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder} holds other things: give a new folder")
        write_json(about, ours)
        return
    try:
        theirs = json.loads(about.read_text("utf-8"))
    except ValueError:
        theirs = None
    if theirs != ours:
        what = "samples of another model or temperature, or in another order"
        raise RunError(f"{folder} holds {what}: give a new folder")


def digest(model: Model) -> str:
    """Sha256 (hex) of all that samples are made of."""
    found = hashlib.sha256(model.config.model_dump_json().encode())
    for tensor in model.decoder.state_dict().values():
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def whole(path: Path, image_shape: tuple[int, int, int]) -> bool:
    """Whether a PNG of this shape (C, H, W) is there, to its last byte."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()  # which is content with all pixels, and no end
            return (
                content.endswith(END)
                and (len(image.getbands()), image.height, image.width) == image_shape
            )
    except Exception:  # whatever a decoder raises on a damaged file
        return False
