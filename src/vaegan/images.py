"""Images between files, uint8 pixels (N, H, W, C) and float tensors (B, C, H, W) in [0, 1].

How a file becomes pixels (PNG, JPEG, WEBP, BMP, GIF; the first frame, turned as EXIF says):

    1 bit               0 and 255
    16-bit grey         value / 257, rounded: 65535 becomes 255
    16-bit colour       the high byte (all that Pillow gives)
    palette, CMYK       their RGB colours; colour profiles are not applied
    alpha, transparency laid on the ground, 0 (black), which is the ground of MNIST and the padding
    colour -> grey      ITU-R 601 luma; grey -> colour by repetition
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaegan.errors import DataError

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = [
    "SUFFIXES",
    "edge_level",
    "outline",
    "read_image_file",
    "read_image_files",
    "resized",
    "survey",
    "to_images",
    "to_pixels",
]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: these values swap width and height
MAX_BYTES = 32 << 20
MAX_PIXELS = 16_000_000


def to_images(pixels: np.ndarray, device: torch.device | str | None = None) -> torch.Tensor:
    """Turn pixels uint8 (N, H, W, C) into images float32 (N, C, H, W) in [0, 1] on `device`.

    The bytes travel to the device as they are, and the result is in channels-last memory.

    Raises:
        DataError: `pixels` is not uint8 or has not four dimensions.
    """
    import torch

    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError(f"pixels are {pixels.dtype} {pixels.shape}: give uint8 (N, H, W, C)")
    # torch warns when it wraps memory that may not be written: copy that.
    tensor = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    return tensor.to(device).permute(0, 3, 1, 2).float().div_(255)


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """Turn images float (N, C, H, W) into pixels uint8 (N, H, W, C).

    Values are clamped to [0, 1] and rounded half up: the exact inverse of `to_images` on each of
    the 256 values, whatever the device.

    Raises:
        DataError: `images` has not four dimensions or holds NaN.
    """
    if images.ndim != 4:
        raise DataError(f"images have the shape {tuple(images.shape)}: give (N, C, H, W)")
    values = images.detach().float()
    if values.isnan().any():
        raise DataError("images hold NaN: the model that made them is damaged, or diverged")
    bytes_ = values.clamp(0, 1).mul(255).add_(0.5).byte()
    return np.ascontiguousarray(bytes_.permute(0, 2, 3, 1).cpu().numpy())


def read_image_files(
    paths: Sequence[str | os.PathLike[str]],
    image_size: tuple[int, int],
    channels: int,
    *,
    resize: bool = False,
    ground: int = 0,
) -> np.ndarray:
    """Read image files by the rules above.

    Args:
        paths: files, at least one.
        image_size: (H, W) that every image must have, or is brought to by `resize`.
        channels: 1 (grey) or 3 (RGB).
        resize: scale images of another size, antialiased, keeping their aspect, and pad them
            with the ground to `image_size`.
        ground: 0..255, what lies behind transparent pixels and around resized images.

    Returns:
        uint8 (N, H, W, C), in the order of `paths`.

    Raises:
        DataError: one or more files cannot be used; one line lists them all with the reasons.
    """
    if channels not in (1, 3) or not 0 <= ground <= 255:
        raise DataError(f"channels (={channels}) must be 1 or 3, ground (={ground}) 0..255")
    if not paths:
        raise DataError("no image files given: name at least one")
    pixels: list[np.ndarray] = []
    problems: list[str] = []
    for path in map(Path, paths):
        try:
            pixels.append(read_image_file(path, image_size, channels, resize=resize, ground=ground))
        except DataError as error:
            problems.append(str(error))
    if problems:
        count = f"{len(problems)} of {len(paths)} images cannot be used"
        raise DataError(f"{count}: {'; '.join(problems)}")
    return np.stack(pixels)


def read_image_file(
    path: str | os.PathLike[str],
    image_size: tuple[int, int],
    channels: int,
    *,
    resize: bool = False,
    ground: int = 0,
) -> np.ndarray:
    """Read one image file, uint8 (H, W, C); arguments as for `read_image_files`.

    Raises:
        DataError: the file cannot be used; the message begins with its name.
    """
    from PIL import ImageOps

    height, width = image_size
    with _opened(Path(path)) as opened:
        image = _flatten(ImageOps.exif_transpose(opened), ground)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            if not resize:
                raise DataError(
                    f"is {image.width} x {image.height} (width x height), the model takes "
                    f"{width} x {height}: resize it first, or give --resize (resize=True)"
                )
            image = _fit(image, width, height, ground)
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def survey(
    path: str | os.PathLike[str], colour: bool = True
) -> tuple[tuple[int, int], bool | None]:
    """The size (H, W) of an image file, and whether a pixel of it has colour (None: not asked).

    Raises:
        DataError: the file cannot be used; the message begins with its name.
    """
    with _opened(Path(path)) as opened:
        width, height = opened.size
        size = (width, height) if opened.getexif().get(ORIENTATION) in TURNED else (height, width)
        if not colour:
            return size, None
        if opened.mode in GREY_MODES:
            return size, False
        bands = np.asarray(_flatten(opened, 0).convert("RGB"))
    return size, bool((bands != bands[..., :1]).any())


def outline(path: str | os.PathLike[str]) -> tuple[float | None, bool]:
    """The level of an image file's ground, and whether the whole of it is of one colour.

    The ground is what its outermost pixels are, 0 (black) .. 255; None where most are transparent.

    Raises:
        DataError: the file cannot be used; the message begins with its name.
    """
    with _opened(Path(path)) as opened:
        if opened.mode.startswith("I"):
            colours = np.asarray(_flatten(opened, 0))[..., None]
            alpha = np.full(colours.shape[:2], 255, np.uint8)
        else:
            bands = np.asarray(opened.convert("RGBA"))
            colours, alpha = bands[..., :3], bands[..., 3]
    blank = bool((colours == colours[:1, :1]).all() and (alpha == alpha[0, 0]).all())
    return edge_level(colours, alpha > 127), blank


def edge_level(pixels: np.ndarray, opaque: np.ndarray | None = None) -> float | None:
    """Median brightness, 0 .. 255, of the outermost pixels of an image (H, W, C).

    Of those alone that are `opaque` (H, W), where that is given; None when most are not.
    """
    ring = np.ones(pixels.shape[:2], bool)
    ring[1:-1, 1:-1] = False
    counted = ring if opaque is None else ring & opaque
    if 2 * counted.sum() < ring.sum():
        return None
    return float(np.median(pixels[counted].mean(axis=1)))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a file; whatever goes wrong with it is a DataError that begins with its name."""
    from PIL import Image

    try:
        if not path.is_file():
            raise DataError("is no file" if path.exists() else "does not exist")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"has {size} bytes, more than {MAX_BYTES}: save it smaller")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise DataError(
                        f"is {opened.width} x {opened.height}, more than {MAX_PIXELS} pixels: "
                        "save it smaller"
                    )
                yield opened
    except DataError as error:
        raise DataError(f"{str(path)!r} {error}") from error.__cause__
    except Image.DecompressionBombError:
        raise DataError(
            f"{str(path)!r} is larger than {MAX_PIXELS} pixels: save it smaller"
        ) from None
    except Image.UnidentifiedImageError:
        raise DataError(
            f"{str(path)!r} is no readable {', '.join(FORMATS)}: convert it or save it anew"
        ) from None
    except Exception as error:  # whatever a decoder raises on a damaged file
        reason = " ".join(str(error).split())[:80]
        raise DataError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {reason}): save it anew"
        ) from error


def _flatten(image: Image.Image, ground: int) -> Image.Image:
    """Bring any mode to opaque 8-bit L or RGB."""
    from PIL import Image

    alpha: np.ndarray | None = None
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        colours = ((2 * wide + 257) // 514).clip(0, 255).astype(np.uint8)
        if "transparency" in image.info:
            alpha = np.where(wide == image.info["transparency"], 0, 255).astype(np.uint8)
    elif image.has_transparency_data:
        bands = np.asarray(image.convert("RGBA"))
        colours, alpha = bands[..., :3], bands[..., 3]
    else:
        grey = image.mode in ("1", "L")
        return image.convert("L" if grey else "RGB")
    if alpha is None:
        return Image.fromarray(colours)

    # c * a + ground * (255 - a) fits uint16, and 255 is odd: no ties to round.
    weight = alpha.astype(np.uint16) if colours.ndim == 2 else alpha.astype(np.uint16)[..., None]
    flat = ((colours * weight + ground * (255 - weight) + 127) // 255).astype(np.uint8)
    if flat.min() == flat.max() and alpha.min() < alpha.max():
        raise DataError(
            f"vanishes on the ground (={ground}), being of its colour: flatten it first"
        )
    return Image.fromarray(flat)


def resized(pixels: np.ndarray, size: int, ground: int = 0) -> np.ndarray:
    """Every image (N, H, W, C) at (N, size, size, C): antialiased, aspect kept, on the ground."""
    from PIL import Image

    made = np.empty((len(pixels), size, size, pixels.shape[3]), np.uint8)
    for place, image in enumerate(pixels):
        picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
        made[place] = np.asarray(_fit(picture, size, size, ground)).reshape(made.shape[1:])
    return made


def _fit(image: Image.Image, width: int, height: int, ground: int) -> Image.Image:
    """Scale to fit into width x height, antialiased; centre on the ground."""
    from PIL import Image

    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new(image.mode, (width, height), (ground,) * len(image.getbands()))
    scaled = image.resize(size, Image.Resampling.BICUBIC)
    canvas.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas
