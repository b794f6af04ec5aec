"""Where everything on a sheet of images lies: tiles, title, labels, frames, in pixels."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vaegan.figures import lettering, theme

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

TILE = 96  # pixels that a tile takes by default: the scale is the integer that comes nearest
WIDE, TALL = 1400, 2200  # pixels that the grid may take by default
MARGIN = 24
ROW_LABEL = 260  # pixels that a row label may take before it is wrapped
COLUMN_LABEL = 260  # pixels that a turned column label may take before it is shortened
TITLE = 460  # pixels that a title may always take, however narrow the grid


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom are one past the last pixel."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Line:
    """One line of text, the box it fills, and how it is set."""

    text: str
    box: Box
    size: int
    bold: bool = False
    color: str = theme.INK
    turned: bool = False  # by 90°, reads from bottom to top


@dataclass(frozen=True)
class Layout:
    """The plan of a sheet; `Layout.cell` gives the box of an image."""

    size: tuple[int, int]
    scale: int
    columns: tuple[int, ...]  # left edge of each column of tiles
    rows: tuple[int, ...]  # top edge of each row of tiles
    tile: tuple[int, int]  # width, height
    lines: tuple[Line, ...]
    frames: tuple[Box, ...]  # outer edges of the frames around marked rows
    stroke: int

    def cell(self, row: int, column: int) -> Box:
        """The box of the image at (row, column)."""
        x, y = self.columns[column], self.rows[row]
        return Box(x, y, x + self.tile[0], y + self.tile[1])


def plan(
    shape: tuple[int, int, int, int],
    *,
    title: str | None = None,
    subtitle: str | None = None,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: int | None = None,
    gap: int = 1,
    groups: Collection[int] = (),
    highlight_rows: Collection[int] = (),
    size: int | None = None,
    least: int = 0,
) -> Layout:
    """Lay out R rows of K images of H x W pixels: `shape` = (R, K, H, W).

    `size`: pixels to the em of the labels, by default larger on a wide sheet, which will be shown
    smaller. `least`: pixels between the margins that the page is wide in any case. The rest as in
    `sheet`.
    """
    rows, columns, height, width = shape
    if scale is None:
        room = min(WIDE // (columns * width), TALL // (rows * height))
        scale = max(1, min(round(TILE / max(height, width)), room))
    tile = (width * scale, height * scale)
    space = gap * scale
    size = size or round(15 * min(1.5, max(1.0, columns * tile[0] / 850)))
    stroke = min(max(3, scale), 6)
    pad = 2 * stroke if highlight_rows else 0  # a frame and air around the tiles

    # Measure the labels: they may push rows and columns apart, never overlap.
    names = [lettering.legible(name) for name in column_labels]
    heads = _Heads(names, min(tile[0], tile[0] + space - 6), size)
    leading = lettering.line_height(lettering.font(size))
    most = max(1, (tile[1] + space) // leading)
    sides = [
        lettering.wrap(lettering.legible(name), lettering.font(size, True), ROW_LABEL, most)[0]
        for name in row_labels
    ]
    bold = {r: lettering.font(size, r in highlight_rows) for r in range(rows)}
    side = max(
        (lettering.line_width(s, bold[r]) for r, ss in enumerate(sides) for s in ss), default=0
    )
    side += size * 3 // 4 if side else 0
    pitch = max(tile[0] + space, heads.pitch)
    row_space = max(space, leading - tile[1] if side else 0)
    grid = (columns - 1) * pitch + tile[0]

    # Set the title and the subtitle across the sheet.
    lines, y = _title(title, subtitle, max(side + grid + 2 * pad, TITLE), size)

    # Place the columns and their labels.
    left = MARGIN + max(side + pad, (heads.pitch - tile[0] + 1) // 2)
    lefts = tuple(left + pitch * k for k in range(columns))
    if heads.height:
        y += heads.height
        lines += heads.place(lefts, tile[0], y)
        y += size // 3
    if side:  # a label may be taller than its row
        y += max(0, leading * len(sides[0]) - tile[1] + 1) // 2
    y = -(-y // 8) * 8  # codecs work in blocks of 8: pixels on their grid need fewer bits

    # Place the rows, their labels and frames.
    tops: list[int] = []
    frames: list[Box] = []
    for r in range(rows):
        marked = r in highlight_rows
        y += pad if marked else 0
        tops.append(y)
        if marked:
            frames.append(Box(left - pad, y - pad, left + grid + pad, y + tile[1] + pad))
        if side:
            color = theme.ACCENT if marked else theme.INK
            first = y + (tile[1] - leading * len(sides[r])) // 2
            for i, text in enumerate(sides[r]):
                x, top = left - pad - size * 3 // 4, first + i * leading
                box = Box(x - lettering.line_width(text, bold[r]), top, x, top + leading)
                lines.append(Line(text, box, size, marked, color))
        y += tile[1] + (pad if marked else 0)
        if r < rows - 1:
            y += row_space + (max(3 * space, size) if r in groups else stroke if marked else 0)

    right = max(MARGIN + least, lefts[-1] + tile[0] + pad, *(line.box.right for line in lines))
    bottom = max([y, *(line.box.bottom for line in lines)])
    return Layout(
        size=(right + MARGIN, bottom + MARGIN),
        scale=scale,
        columns=lefts,
        rows=tuple(tops),
        tile=tile,
        lines=tuple(lines),
        frames=tuple(frames),
        stroke=stroke,
    )


def title_face(size: int) -> "FreeTypeFont":
    """The font of a title above labels of `size` pixels to the em."""
    return lettering.font(round(size * 1.4), True)


def _title(
    title: str | None, subtitle: str | None, width: int, size: int
) -> tuple[list[Line], int]:
    """The lines of the heading, and the height at which what follows begins."""
    lines: list[Line] = []
    y = MARGIN
    for text, face, bold, color in (
        (title, title_face(size), True, theme.INK),
        (subtitle, lettering.font(size), False, theme.MUTED),
    ):
        step = lettering.line_height(face)
        for row in lettering.wrap(lettering.legible(text or ""), face, width, 4)[0]:
            box = Box(MARGIN, y, MARGIN + lettering.line_width(row, face), y + step)
            lines.append(Line(row, box, int(face.size), bold, color))
            y += step
        y += size // 4 if text else 0
    return lines, y + (size * 2 // 3 if lines else 0)


class _Heads:
    """Column labels: upright on one or two lines where they fit, else all turned by 90°."""

    def __init__(self, names: Sequence[str], room: int, size: int) -> None:
        self.turned, self.pitch, self.height = False, 0, 0
        self.rows: list[list[str]] = []
        if not any(names):
            return
        for self.size in range(size, max(10, size - 4), -1):
            face = lettering.font(self.size)
            wrapped = [lettering.wrap(name, face, room, 2) for name in names]
            self.rows = [rows for rows, _ in wrapped]
            if all(whole for _, whole in wrapped):
                self.height = lettering.line_height(face) * max(map(len, self.rows))
                return
        self.turned, self.size = True, size
        face = lettering.font(size)
        self.pitch = lettering.line_height(face)
        self.rows = [[lettering.shorten(name, face, COLUMN_LABEL)] for name in names]
        self.height = max(lettering.line_width(row[0], face) for row in self.rows)

    def place(self, lefts: Sequence[int], tile: int, bottom: int) -> list[Line]:
        """The lines above tiles `tile` wide at `lefts`, standing on `bottom`."""
        face = lettering.font(self.size)
        leading = lettering.line_height(face)
        lines = []
        for left, rows in zip(lefts, self.rows, strict=True):
            for i, text in enumerate(rows):
                long = lettering.line_width(text, face)
                wide, high = (leading, long) if self.turned else (long, leading)
                x = left + (tile - wide) // 2
                y = bottom - high - leading * (len(rows) - 1 - i)
                lines.append(
                    Line(text, Box(x, y, x + wide, y + high), self.size, turned=self.turned)
                )
        return lines
