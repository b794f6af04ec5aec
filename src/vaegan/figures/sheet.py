"""A sheet of images: rows and columns of crisp pixels with title, labels and marked rows."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaegan.errors import DataError
from vaegan.figures import lettering, theme
from vaegan.figures.layout import Layout, Line, plan

if TYPE_CHECKING:
    from PIL import Image


def sheet(
    pixels: np.ndarray,
    *,
    title: str | None = None,
    subtitle: str | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    scale: int | None = None,
    invert: bool = False,
    gap: int = 1,
    groups: Collection[int] = (),
    highlight_rows: Collection[int] = (),
) -> "Image.Image":
    """Draw images on a white page, each of their pixels an exact square.

    Args:
        pixels: (R, K, H, W, C) uint8, C = 1 or 3: R rows of K images.
        title: a bold line above; wrapped where it is wider than the sheet.
        subtitle: a muted line below the title.
        row_labels: R names at the left; "" leaves a row without.
        column_labels: K names above; set upright, and turned by 90° where that is too narrow.
        scale: pixels a side of one image pixel; None chooses (28 px images: 3).
        invert: show 255 - pixels: dark ink on white.
        gap: image pixels between neighbours; 0 for a manifold.
        groups: rows (0..R-1) after which a larger gap follows.
        highlight_rows: rows (0..R-1) to frame in the accent colour: the sources of a transfer.

    Returns: an RGB image.

    Raises:
        DataError: `pixels` or a list of labels has another shape, or a row does not exist.
    """
    rows = check(pixels, row_labels, column_labels)
    for row in (*groups, *highlight_rows):
        if not 0 <= row < rows:
            raise DataError(f"a sheet of {rows} rows has no row {row}; name rows 0 to {rows - 1}")
    if gap < 0 or (scale is not None and scale < 1):
        raise DataError(f"`gap` (={gap}) must be >= 0 and `scale` (={scale}) >= 1, in whole pixels")
    layout = plan(
        pixels.shape[:4],
        title=title,
        subtitle=subtitle,
        row_labels=row_labels or (),
        column_labels=column_labels or (),
        scale=scale,
        gap=gap,
        groups=groups,
        highlight_rows=highlight_rows,
    )
    return draw(layout, 255 - pixels if invert else pixels)


def draw(layout: Layout, pixels: np.ndarray) -> "Image.Image":
    """Fill a `layout` with its images: `pixels` (R, K, H, W, C) uint8 -> an RGB image."""
    from PIL import Image, ImageDraw

    # Copy the enlarged images to their places; grey spreads over the three channels.
    width, height = layout.size
    canvas = np.full((height, width, 3), 255, np.uint8)
    large = pixels.repeat(layout.scale, 2).repeat(layout.scale, 3)
    for r, y in enumerate(layout.rows):
        for k, x in enumerate(layout.columns):
            canvas[y : y + layout.tile[1], x : x + layout.tile[0]] = large[r, k]

    page = Image.fromarray(canvas)
    pen = ImageDraw.Draw(page)
    for box in layout.frames:
        edge = (box.left, box.top, box.right - 1, box.bottom - 1)
        pen.rectangle(edge, outline=theme.ACCENT, width=layout.stroke)
    for line in layout.lines:
        if line.turned:
            _write_turned(page, line)
        else:
            face = lettering.font(line.size, line.bold)
            x = line.box.left + lettering.overhang(line.text, face)
            pen.text((x, line.box.top), line.text, fill=line.color, font=face, anchor="la")
    return page


def _write_turned(page: "Image.Image", line: Line) -> None:
    from PIL import Image, ImageDraw

    left, top, right, bottom = line.box
    mask = Image.new("L", (bottom - top, right - left))
    face = lettering.font(line.size, line.bold)
    start = (lettering.overhang(line.text, face), 0)
    ImageDraw.Draw(mask).text(start, line.text, fill=255, font=face, anchor="la")
    page.paste(theme.rgb(line.color), (left, top), mask.transpose(Image.Transpose.ROTATE_90))


def check(
    pixels: np.ndarray,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> int:
    """The number of rows of `pixels`; DataError unless it and the labels suit a sheet."""
    if pixels.ndim != 5 or pixels.dtype != np.uint8 or pixels.shape[4] not in (1, 3):
        raise DataError(
            f"a sheet needs uint8 pixels (R, K, H, W, 1 or 3), not {pixels.dtype} of shape "
            f"{pixels.shape}; scale to 0..255 and arrange the images in rows first"
        )
    if 0 in pixels.shape:
        raise DataError(f"a sheet of shape {pixels.shape} shows nothing; give at least one image")
    rows, columns = pixels.shape[:2]
    for name, labels, count in (
        ("row_labels", row_labels, rows),
        ("column_labels", column_labels, columns),
    ):
        if labels and len(labels) != count:
            raise DataError(f"`{name}` holds {len(labels)} names for {count}; give one for each")
    return rows
