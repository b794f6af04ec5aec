"""metrics.json: flat, valid JSON, and read back as it was; and how a table names it all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vaegan.errors import RunError
from vaegan.evaluation.measures import GROUPS, cell, filled, number
from vaegan.evaluation.scores import Scores, averaged
from vaegan.metrics.bootstrap import Interval


def example() -> Scores:
    scores = Scores(about={"extractor": "judge", "real_images": 3})
    scores.add("prior", {"frechet_distance": 1.5, "recall": math.nan})
    scores.add_means("reconstruction", {"mse": np.array([0.1, 0.2, 0.3, math.nan])})
    scores.table("prior_confusion", np.array([[1.0, np.nan], [0.5, 0.5]]))
    scores.skip("one line")
    scores.skip("one line")
    scores.seconds["samples"] = 1.234
    return scores


def test_values_lie_flat_and_undefined_ones_are_null(tmp_path) -> None:
    example().write(tmp_path / "metrics.json")
    tree = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert tree["prior_frechet_distance"] == 1.5 and tree["prior_recall"] is None
    assert tree["reconstruction_mse"] == pytest.approx(0.2)
    low, high = tree["intervals"]["reconstruction_mse"]
    assert 0.1 <= low < 0.2 < high <= 0.3
    assert tree["tables"]["prior_confusion"] == [[1.0, None], [0.5, 0.5]]
    assert tree["skipped"] == ["one line"] and tree["seconds"] == {"samples": 1.23}
    assert tree["about"]["extractor"] == "judge" and tree["format_version"] == 1


def test_scores_come_back_as_they_were(tmp_path) -> None:
    scores = example()
    scores.write(tmp_path / "metrics.json")
    back = Scores.read(tmp_path / "metrics.json")
    assert back.values == pytest.approx(scores.values, nan_ok=True)
    assert back.intervals == scores.intervals and back.tables == scores.tables
    assert back.as_json() == scores.as_json()


def draws() -> list[Scores]:
    """Two seeds: a value that depends on the draws, one that does not, one that only one has."""
    found = []
    for seed, fid in ((3, 1.0), (5, 2.0)):
        scores = Scores(about={"seeds": [seed], "real_images": 9})
        scores.add("prior", {"frechet_distance": fid, "recall": math.nan if seed == 3 else 0.5})
        scores.values["reconstruction_mse"] = 0.25
        scores.intervals["reconstruction_mse"] = (0.2, 0.3)
        scores.table("prior_confusion", np.array([[fid, np.nan], [np.nan if seed == 3 else 4, 2]]))
        scores.skip("of both")
        scores.skip(f"of {seed}")
        scores.seconds["samples"] = 1.0
        found.append(scores)
    return found


def test_several_seeds_are_their_means_with_intervals_over_draws() -> None:
    mean = averaged(draws())
    assert mean.about["seeds"] == [3, 5]
    assert mean.values == {
        "prior_frechet_distance": 1.5,
        "prior_recall": 0.5,
        "reconstruction_mse": 0.25,
    }
    low, high = mean.intervals["prior_frechet_distance"]
    # Student's t with one degree of freedom: 12.706 standard errors, here 12.706 / 2.
    assert (high + low) / 2 == pytest.approx(1.5) and high - low == pytest.approx(12.706, rel=1e-4)
    # Draws say nothing of a value that they do not change: no interval, not one of width 0.
    assert "reconstruction_mse" not in mean.intervals
    assert mean.tables["prior_confusion"] == [[1.5, None], [4.0, 2.0]]
    assert mean.skipped == ["of both", "of 3", "of 5"] and mean.seconds == {"samples": 2.0}
    (one,) = draws()[:1]
    assert averaged([one]) is one


def test_a_file_of_several_seeds_gives_back_each(tmp_path) -> None:
    mean, path = averaged(draws()), tmp_path / "metrics.json"
    mean.write(path)
    tree = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert tree["prior_frechet_distance"] == 1.5
    assert tree["by_seed"]["5"]["prior_frechet_distance"] == 2.0
    assert tree["by_seed"]["5"]["intervals"] == {"reconstruction_mse": [0.2, 0.3]}
    back = Scores.read(path)
    assert back.as_json() == mean.as_json()
    for one in draws():
        (seed,) = one.about["seeds"]
        again = back.of_seed(seed)
        assert again.about["seeds"] == [seed] and again.by_seed == {}
        assert again.values == pytest.approx(one.values, nan_ok=True)
        assert again.intervals == one.intervals
        assert again.of_seed(seed) is again
    assert back.of_seed(4) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"prior_recall": "much"},
        {"prior_recall": [1]},
        {"intervals": {"prior_recall": 1}},
        {"intervals": {"prior_recall": [1, 2, 3]}},
        {"by_seed": [1]},
        {"by_seed": {"0": {"prior_recall": 1}}},
        {"by_seed": {"zero": {"intervals": {}}}},
    ],
)
def test_values_that_are_no_numbers_are_one_line(tmp_path, damage) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(example().as_json() | damage))
    with pytest.raises(RunError, match="evaluate the run again"):
        Scores.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 2}', "[" * 100_000])
def test_a_damaged_file_is_one_line(tmp_path, text) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(RunError, match="evaluate the run again"):
        Scores.read(path)
    with pytest.raises(RunError, match="cannot read"):
        Scores.read(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.9453, 3, ".945"),
        (-0.02, 3, "−.020"),
        (1.0, 3, "1.000"),
        (0.9999, 3, "1.000"),
        (12.346, 2, "12.35"),
        (123.456, 2, "123.5"),
        (12345.6, 2, "12,346"),
        (-0.00001, 3, ".000"),
        (8.0, 0, "8"),
        (0.0, 0, "0"),
        (100.06, 3, "100.1"),
        (10.05, 3, "10.050"),
    ],
)
def test_numbers_are_short(value, digits, text) -> None:
    assert number(value, digits) == text


def test_cells() -> None:
    nan = math.nan
    assert cell(Interval(0.5, 0.4, 0.6, 0.95, 9), 3) == ".500 ± .100"
    assert cell(Interval(0.5, nan, nan, 0.95, 1), 3) == ".500"
    assert cell(Interval(nan, nan, nan, 0.95, 1), 3) == "–"
    assert cell(None, 3) == ""


def test_tables_leave_out_what_nothing_was_measured_for() -> None:
    values = {"prior_recall": 0.5, "floor_recall": 0.9, "latents_kl": 3.0}
    found = list(filled(values))
    assert [group.title for group, _, _ in found] == [GROUPS[0].title, GROUPS[2].title]
    _, columns, rows = found[0]
    assert list(columns) == ["prior", "floor"] and [row.name for row in rows] == ["recall"]
