import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaegan.figures import lettering

FACE = lettering.font(15)
WORDS = st.text("abc WÅ.,-j", max_size=60)


def ink(text, face):
    """Columns and rows of a text drawn alone, far from the edges of its canvas."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (1500, 100))
    ImageDraw.Draw(canvas).text((100, 30), text, fill=255, font=face, anchor="la")
    return canvas.getbbox()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ankle boot", "Ankle boot"),
        ("  two\n lines\t", "two lines"),
        ("bell\x07 and \u202eturned", "bell and turned"),
        ("é as e + accent: e\u0301", "é as e + accent: é"),
        ("あ", "U+3042"),
        ("\ud800", "U+D800"),
        ("", ""),
    ],
)
def test_legible(text, shown):
    assert lettering.legible(text) == shown


@pytest.mark.parametrize("text", ["j", "Ankle boot", "W", "Ågf|_", "1/2"])
@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("size", [10, 15, 28])
def test_ink_lies_in_the_measured_box(text, size, bold):
    face = lettering.font(size, bold)
    left, top, right, bottom = ink(text, face)
    start = 100 - lettering.overhang(text, face)
    assert left >= start
    assert right <= start + lettering.line_width(text, face)
    assert top >= 30
    assert bottom <= 30 + lettering.line_height(face)


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(20, 400))
def test_shorten_fits_and_leaves_short_text_alone(text, width):
    short = lettering.shorten(text, FACE, width)
    assert lettering.line_width(short, FACE) <= width
    if lettering.line_width(text, FACE) <= width:
        assert short == text
    else:
        assert short.endswith("…")
        assert text.startswith(short[:-1])


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(40, 300), st.integers(1, 4))
def test_wrap_fits_and_loses_nothing_unless_it_says_so(text, width, lines):
    rows, whole = lettering.wrap(text, FACE, width, lines)
    assert len(rows) <= lines
    assert all(lettering.line_width(row, FACE) <= width for row in rows)
    assert whole == (" ".join(rows) == " ".join(text.split()))
