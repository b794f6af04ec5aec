"""Text in pictures drawn by Pillow: fonts, safe characters, measuring, wrapping, shortening."""

import math
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

ELLIPSIS = "…"


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> "FreeTypeFont":
    """DejaVu Sans, as bundled with matplotlib, `size` pixels to the em."""
    from PIL import ImageFont

    return ImageFont.truetype(_path(bold), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=2)
def _path(bold: bool) -> str:
    from pathlib import Path

    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", name))


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_path(True)).get_charmap()) & frozenset(
        FT2Font(_path(False)).get_charmap()
    )


def legible(text: str) -> str:
    """Text that the typeface can show: white space collapsed, invisible characters left out.

    A character without a glyph is spelt by its number ("U+3042") instead of as an empty box, so
    that two classes never look the same.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    shown = []
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf"):
            continue
        known = ord(character) in _drawable()
        shown.append(character if known else f"U+{ord(character):04X}")
    return "".join(shown)


def line_width(text: str, face: "FreeTypeFont") -> int:
    """Pixels from the first to the last character's edge, ink that overhangs it included."""
    return overhang(text, face) + math.ceil(max(face.getbbox(text)[2], face.getlength(text)))


def overhang(text: str, face: "FreeTypeFont") -> int:
    """Pixels of ink left of the first character's origin: a "j" reaches back."""
    return max(0, math.ceil(-face.getbbox(text)[0]))


def line_height(face: "FreeTypeFont") -> int:
    """Pixels from the highest ascender to the lowest descender of the face."""
    ascent, descent = face.getmetrics()
    return ascent + descent


def shorten(text: str, face: "FreeTypeFont", width: int) -> str:
    """`text`, its end replaced by an ellipsis where it is wider than `width` pixels."""
    if line_width(text, face) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if line_width(text[:middle].rstrip() + ELLIPSIS, face) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + ELLIPSIS


def wrap(text: str, face: "FreeTypeFont", width: int, lines: int) -> tuple[list[str], bool]:
    """Break `text` at spaces into at most `lines` lines of `width` pixels.

    Returns the lines, and whether the text is all there (else a line ends with an ellipsis).
    """
    rows: list[str] = []
    for word in text.split():
        if rows and line_width(f"{rows[-1]} {word}", face) <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    if len(rows) > lines:
        rows[lines - 1 :] = [" ".join(rows[lines - 1 :])]
    short = [shorten(row, face, width) for row in rows]
    return short, short == rows
