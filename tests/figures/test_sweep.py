"""What a setting does: every measure at its place, in its colour, with its interval."""

from __future__ import annotations

import numpy as np
import pytest

from vaegan.errors import DataError
from vaegan.figures import theme
from vaegan.figures.sweep import Panel, sweep


def of(*values: float, half: float = 0.0) -> list[tuple[float, float, float] | None]:
    return [(v, v - half, v + half) for v in values]


def places(image, color: int) -> np.ndarray:
    """(x, y) of the pixels in a line's colour, below the names, x and y growing right and up."""
    pixels = np.asarray(image).astype(int)
    found = np.argwhere(np.abs(pixels - theme.rgb(theme.class_color(color))).max(2) <= 2)
    found = found[found[:, 0] > 0.35 * len(pixels)]
    return np.stack([found[:, 1], -found[:, 0]], 1)


def test_lines_go_as_the_numbers_do_whatever_their_order() -> None:
    panel = Panel("Both", {"rises": of(3, 1, 2), "falls": of(1, 3, 2)}, real=2.5)
    image = sweep("weight", [30.0, 10.0, 20.0], [panel], "Title")
    for color, sign in ((0, 1), (1, -1)):
        x, y = places(image, color).T
        assert np.sign(np.corrcoef(x, y)[0, 1]) == sign
    dashes = np.abs(np.asarray(image).astype(int) - theme.rgb(theme.MUTED)).max(2) <= 8
    assert dashes.sum(1).max() > 150  # real images: one long row of dashes


def test_intervals_stand_up_and_what_is_undefined_is_left_out() -> None:
    values = [1.0, 10.0, 100.0]
    narrow, wide = (
        sweep("weight", values, [Panel("One", {"line": of(1, 1, 1, half=half)})])
        for half in (0.01, 1.0)
    )
    assert np.ptp(places(wide, 0)[:, 1]) >= np.ptp(places(narrow, 0)[:, 1])
    # On a logarithmic axis 10 lies half-way: without the first the line begins in the middle.
    whole, part = of(1, 2, 3), [None, *of(2, 3)]
    undefined = [(np.nan, np.nan, np.nan), *of(2, 3)]
    reach = [
        np.ptp(places(sweep("weight", values, [Panel("One", {"line": line})]), 0)[:, 0])
        for line in (whole, part, undefined)
    ]
    assert reach[1] == reach[2] == pytest.approx(reach[0] / 2, rel=0.25)


def test_panels_make_rows_of_three_and_nothing_to_draw_is_refused() -> None:
    panel = Panel("One", {"line": of(1, 2)})
    one, four = (sweep("weight", [1, 2], [panel] * count) for count in (1, 4))
    assert four.width > 2.5 * one.width and four.height > 1.7 * one.height
    with pytest.raises(DataError, match="two values"):
        sweep("weight", [1], [Panel("One", {"line": of(1)})])
    with pytest.raises(DataError, match="two values"):
        sweep("weight", [1, 2], [])
