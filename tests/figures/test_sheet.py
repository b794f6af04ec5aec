import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaegan.errors import DataError
from vaegan.figures import theme
from vaegan.figures.layout import MARGIN, plan
from vaegan.figures.sheet import sheet

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
NAMES = st.text("abWj 3Åあ", max_size=30)


def grid(digits, rows, columns):
    pixels = digits[0][: rows * columns]
    return pixels.reshape(rows, columns, *pixels.shape[1:])


def boxes(layout):
    """Every box that anything is drawn in: tiles, lines, frames (as their four bars)."""
    tiles = [layout.cell(r, k) for r in range(len(layout.rows)) for k in range(len(layout.columns))]
    frames = []
    for left, top, right, bottom in layout.frames:
        s = layout.stroke
        frames += [(left, top, right, top + s), (left, bottom - s, right, bottom)]
        frames += [(left, top + s, left + s, bottom - s), (right - s, top + s, right, bottom - s)]
    return [*tiles, *(line.box for line in layout.lines), *frames]


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def assert_sound(layout):
    width, height = layout.size
    for box in boxes(layout):
        assert box[0] >= MARGIN and box[1] >= MARGIN
        assert box[2] <= width - MARGIN and box[3] <= height - MARGIN
    for a, b in combinations(boxes(layout), 2):
        assert not overlap(a, b), (a, b)


@pytest.mark.parametrize("scale", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("invert", [False, True])
def test_every_image_is_shown_pixel_for_pixel(scale, channels, invert):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 5, channels), np.uint8)
    options = {"title": "Title", "row_labels": ["a", "b", "c"], "groups": [1], "scale": scale}
    page = sheet(pixels, invert=invert, **options)
    layout = plan(pixels.shape[:4], **options)
    assert page.size == layout.size
    for r in range(3):
        for k in range(4):
            tile = np.asarray(page.crop(layout.cell(r, k)))
            shown = np.broadcast_to(pixels[r, k], (6, 5, 3))
            shown = 255 - shown if invert else shown
            assert (tile == np.kron(shown, np.ones((scale, scale, 1), np.uint8))).all()


def test_size_without_words_is_exact():
    pixels = np.zeros((3, 4, 28, 28, 1), np.uint8)
    height = 3 * 28 * 2 + 2 * 2
    assert sheet(pixels, scale=2).size == (
        2 * MARGIN + 4 * 28 * 2 + 3 * 2,
        2 * MARGIN + height,
    )
    assert sheet(pixels, scale=2, gap=0).size == (2 * MARGIN + 224, 2 * MARGIN + 168)


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((10, 10, 28, 28), 3),
        ((15, 15, 28, 28), 3),
        ((20, 10, 28, 28), 3),
        ((1, 1, 8, 8), 12),
        ((10, 10, 64, 64), 2),
        ((4, 8, 64, 64), 2),
        ((10, 8, 32, 32), 3),
        ((15, 15, 64, 64), 1),
        ((1, 1, 300, 300), 1),
    ],
)
def test_scale_is_chosen_by_the_room(shape, scale):
    assert plan(shape).scale == scale


def test_a_manifold_without_gaps_is_one_picture(digits):
    pixels = grid(digits, 15, 15)
    page = np.asarray(sheet(pixels, gap=0, scale=3))
    joined = pixels.transpose(0, 2, 1, 3, 4).reshape(120, 120, 1)
    inner = page[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert (inner == np.kron(joined, np.ones((3, 3, 1), np.uint8))).all()


def test_groups_widen_exactly_the_gaps_asked_for():
    layout = plan((6, 5, 28, 28), scale=2, gap=1, groups=[1, 3])
    gaps = np.diff(layout.rows) - 56
    assert gaps.tolist() == [2, 17, 2, 17, 2]
    assert (np.diff(layout.columns) - 56).tolist() == [2] * 4


def test_the_page_is_white_outside_the_boxes_and_every_line_has_ink(digits):
    options = {
        "title": "Reconstructions of ten classes",
        "subtitle": "a muted line, quite long, with descenders: jpqgy",
        "row_labels": ["original", "rebuilt", "Ågj|", ""],
        "column_labels": FASHION,
        "scale": 4,
        "highlight_rows": [2],
    }
    pixels = 255 - grid(digits, 4, 10) // 2
    layout = plan(pixels.shape[:4], **options)
    page = np.asarray(sheet(pixels, **options)).copy()
    for line in layout.lines:
        left, top, right, bottom = line.box
        assert (page[top:bottom, left:right] < 200).any(), line.text
    for left, top, right, bottom in boxes(layout):
        page[top:bottom, left:right] = 255
    assert (page == 255).all()
    assert_sound(layout)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_long_class_names_are_whole_at_the_side_and_above(scale):
    layout = plan((10, 10, 28, 28), row_labels=FASHION, column_labels=FASHION, scale=scale)
    assert_sound(layout)
    texts = " ".join(line.text for line in layout.lines)
    for name in FASHION:
        assert texts.count(name) == 2 or name in ("T-shirt/top", "Shirt")
    assert "…" not in texts
    above = [line for line in layout.lines if line.box.bottom <= layout.rows[0]]
    assert {line.turned for line in above} == {scale < 3}


def test_a_column_label_wraps_before_it_turns():
    names = ["left hand", "right hand"]
    layout = plan((1, 2, 28, 28), column_labels=names, scale=2)
    assert [line.text for line in layout.lines] == ["left", "hand", "right", "hand"]
    assert not any(line.turned for line in layout.lines)


def test_a_row_label_of_two_lines_stays_below_the_margin():
    layout = plan((1, 1, 16, 16), row_labels=["33333333333W ああ"], gap=2, scale=2)
    assert len(layout.lines) == 2
    assert_sound(layout)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 5),
    side=st.integers(1, 20),
    scale=st.none() | st.integers(1, 3),
    gap=st.integers(0, 2),
    data=st.data(),
)
def test_nothing_ever_overlaps(rows, columns, side, scale, gap, data):
    pick = st.lists(st.integers(0, rows - 1), max_size=rows)
    assert_sound(
        plan(
            (rows, columns, side, side),
            title=data.draw(st.none() | NAMES),
            subtitle=data.draw(st.none() | NAMES),
            row_labels=data.draw(st.lists(NAMES, min_size=rows, max_size=rows)),
            column_labels=data.draw(st.lists(NAMES, min_size=columns, max_size=columns)),
            scale=scale,
            gap=gap,
            groups=data.draw(pick),
            highlight_rows=data.draw(pick),
        )
    )


def test_the_marked_row_is_framed_in_the_accent(digits):
    pixels = grid(digits, 3, 4)
    options = {"row_labels": ["7", "8", "9"], "scale": 6}
    accent = np.array(theme.rgb(theme.ACCENT))
    assert not (np.asarray(sheet(pixels, **options)) == accent).all(2).any()

    layout = plan(pixels.shape[:4], highlight_rows=[1], **options)
    page = np.asarray(sheet(pixels, highlight_rows=[1], **options))
    (frame,) = layout.frames
    assert layout.stroke == 6
    for y in (frame.top, frame.top + 5, frame.bottom - 1):
        assert (page[y, frame.left : frame.right] == accent).all()
    for x in (frame.left, frame.left + 5, frame.right - 1):
        assert (page[frame.top : frame.bottom, x] == accent).all()
    assert frame.top > layout.cell(0, 0).bottom and frame.bottom < layout.cell(2, 0).top
    assert frame.left < layout.cell(1, 0).left and frame.right > layout.cell(1, 3).right
    assert [line.color for line in layout.lines] == [theme.INK, theme.ACCENT, theme.INK]
    assert [line.bold for line in layout.lines] == [False, True, False]


def test_a_title_wider_than_the_images_is_wrapped_not_cut():
    title = "A title far longer than the two little pictures that stand under it"
    layout = plan((1, 2, 28, 28), title=title)
    assert len(layout.lines) == 2
    assert " ".join(line.text for line in layout.lines) == title
    assert_sound(layout)


def test_a_sheet_takes_milliseconds(digits):
    pixels = np.zeros((15, 15, 28, 28, 1), np.uint8)
    sheet(pixels, title="warm the fonts")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        sheet(pixels, title="Label: 3, Step: 48000", gap=0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.25


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        (np.zeros((2, 3, 4, 4, 1)), {}, "float64"),
        (np.zeros((2, 3, 4, 4), np.uint8), {}, "(2, 3, 4, 4)"),
        (np.zeros((2, 3, 4, 4, 2), np.uint8), {}, "(2, 3, 4, 4, 2)"),
        (np.zeros((0, 3, 4, 4, 1), np.uint8), {}, "shows nothing"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), {"row_labels": ["a"]}, "`row_labels` holds 1"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), {"column_labels": "ab"}, "`column_labels` holds 2"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), {"highlight_rows": [2]}, "no row 2"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), {"groups": [-1]}, "no row -1"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), {"scale": 0}, "`scale` (=0)"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), {"gap": -1}, "`gap` (=-1)"),
    ],
)
def test_bad_input_is_one_line_that_quotes_the_value(pixels, options, words):
    with pytest.raises(DataError) as error:
        sheet(pixels, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
