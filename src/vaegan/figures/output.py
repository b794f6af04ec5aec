"""Save a picture, whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

from vaegan.errors import ConfigError
from vaegan.files import replacing

if TYPE_CHECKING:
    from PIL import Image


def save(image: "Image.Image", path: str | Path) -> Path:
    """Write `image` as an optimised PNG and return the path.

    A picture without colour is stored as grey: smaller, the same to the eye. The density in
    `image.info["dpi"]`, when there is one, is kept.

    Raises:
        ConfigError: `path` does not end in .png.
        RunError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"a picture is written as PNG, not {path.name!r}; end the name in .png")
    options = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
    with replacing(path) as temporary:
        plain(image).save(temporary, format="PNG", optimize=True, **options)
    return path


def plain(image: "Image.Image") -> "Image.Image":
    """`image` as grey (mode L) where no pixel has a colour, else as RGB."""
    import numpy as np

    rgb = image.convert("RGB")
    array = np.asarray(rgb)
    grey = (array[..., 0] == array[..., 1]).all() and (array[..., 1] == array[..., 2]).all()
    return rgb.getchannel(0) if grey else rgb
