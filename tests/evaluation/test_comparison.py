"""Columns of a comparison: whose means they are, what their intervals are over, what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaegan.data import Dataset
from vaegan.errors import DataError
from vaegan.evaluation.comparison import Run, entries, markdown, picture, spread, summarised
from vaegan.evaluation.scores import Scores
from vaegan.model import Model
from vaegan.settings import resolve


@pytest.fixture
def run(letters: Dataset) -> Any:
    """Return the function that makes a measured run."""

    def make(seed: int = 0, system: str = "cvae", mse: float = 0.5, **about: Any) -> Run:
        config = resolve(letters, system=system, recipe="dense", latent_dim=2, seed=seed)
        facts = {
            "data_fingerprint": "a",
            "extractor_digest": "b",
            "extractor_about": "judge of letters: 99.00 %",
            "real_images": 90,
            "seeds": [0],
            "trained": {"step": 100 + seed, "images_seen": 6400, "seconds": 90.0},
        }
        scores = Scores(facts | about, {"reconstruction_mse": mse})
        scores.intervals["reconstruction_mse"] = (mse - 0.1, mse + 0.1)
        return Run(Path(f"{system}-{seed}"), config, scores, Model(config.model))

    return make


def test_what_values_rest_on(run: Any) -> None:
    one = summarised([run().scores])["reconstruction_mse"]
    assert (one.value, one.low, one.high, one.count) == (0.5, 0.4, 0.6, 90)
    draws = summarised([run(seeds=[0, 1, 2]).scores])["reconstruction_mse"]
    assert draws.count == 3
    two = summarised([run(mse=0.5).scores, run(mse=0.7).scores])["reconstruction_mse"]
    assert two.value == pytest.approx(0.6) and two.count == 2
    assert two.high - two.value == pytest.approx(12.706 * 0.1, rel=1e-3)
    one, several = run().scores, run(seeds=[0, 1]).scores
    assert spread([one]) == "1 run ± half the 95 % bootstrap interval over images"
    assert spread([several]).startswith("mean of 2 draws of 1 run ± half the 95 % t interval")
    assert spread([one, one]) == "mean of 2 runs ± half the 95 % t interval over runs"
    assert spread([several, several]).startswith("mean of 2 runs of 2 draws each ±")


def test_columns_say_what_they_cost(run: Any) -> None:
    found = entries([run(0), run(7), run(0, "vae")])
    assert [(entry.name, len(entry.runs)) for entry in found] == [("cvae 2", 2), ("vae 2", 1)]
    table = {line.split("|")[1].strip(): line for line in markdown(found, []).splitlines() if line}
    cells = {name: [cell.strip() for cell in line.split("|")[3:5]] for name, line in table.items()}
    assert cells["runs"] == ["2", "1"]
    assert cells["steps"] == ["100 to 107", "100"]
    assert cells["images seen"] == ["6,400", "6,400"]
    assert cells["minutes trained"] == ["1.5", "1.5"]
    weights = [sum(p.numel() for p in entry.runs[0].model.parameters()) for entry in found]
    assert cells["parameters"] == [f"{number:,}" for number in weights]
    tree = json.loads(json.dumps(found[0].as_json()))
    assert tree["parameters"] == weights[0] and tree["seeds"] == [0, 7]
    assert tree["settings"]["model"]["system"] == "cvae" and "seed" not in tree["settings"]
    assert tree["interval"].startswith("mean of 2 runs")
    # A run whose log is lost still has a column.
    bare = run()
    del bare.scores.about["trained"]
    assert "| steps |  |  |  |" in markdown(entries([bare]), [])


def test_judges_are_told_apart_by_their_weights(run: Any) -> None:
    """Two trainings can end in the same sentence: the digest is of the weights."""
    with pytest.raises(DataError, match="cvae-0 and vae-0 cannot be compared: extractor_digest"):
        entries([run(), run(0, "vae", extractor_digest="c")])
    found = entries([run(), run(0, "vae", extractor_about="in other words")])
    assert len(found) == 2


@pytest.mark.parametrize("system", ["cvae", "vae"])
def test_only_classes_that_occur_are_drawn(
    run: Any, letters: Dataset, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any L in the test split, conditional systems draw I and T."""
    from vaegan.evaluation import comparison

    drawn = []
    plain = comparison.sheet
    monkeypatch.setattr(
        comparison, "sheet", lambda pixels, **given: drawn.append(pixels) or plain(pixels, **given)
    )
    without = letters.test.take(np.flatnonzero(letters.test.labels != 1)[:7])
    found = entries([run(0, system)])
    picture(found, without)
    (rows,) = drawn
    blocks = {"cvae": 5, "vae": 3}[system]  # originals, reconstructions, samples (its style, one)
    assert rows.shape[:2] == (blocks, {"cvae": 2, "vae": 7}[system])
    if system == "cvae":
        known = {image.tobytes(): label for image, label in zip(without.pixels, without.labels)}
        assert [known[image.tobytes()] for image in rows[0]] == [0, 2]
