"""Runs that differ in their seed alone are one group; headings name what tells the others apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaegan.errors import RunError
from vaegan.evaluation.grouping import headings, settings_of, swept


def of(*configs: Any) -> list[str]:
    return headings([Path(f"run-{i}") for i in range(len(configs))], configs)


def test_the_seed_and_the_place_of_the_data_make_no_group(configure: Any) -> None:
    one, two = configure("cvae"), configure("cvae", seed=1)
    moved = one.model_copy(update={"seed": 2, "data": "/elsewhere"})
    other = one.model_copy(update={"seed": 3, "data_fingerprint": "f" * 64})
    assert of(one, two, moved) == ["cvae 4"] * 3
    assert settings_of(one) == settings_of(moved) != settings_of(other)
    names = of(one, two, other)
    assert names[0] == names[1] == "cvae 4 data_fingerprint #1"
    assert names[2] == "cvae 4 data_fingerprint #2"


def test_another_program_is_named(configure: Any) -> None:
    """A peer's run, as `benchmarks.pythae_run` leaves it, is no system of ours."""
    theirs = configure("vae-gan").model_copy(update={"recipe": "pythae"})
    assert of(theirs) == ["vae-gan 4 pythae"]
    assert of(theirs, configure("cvae")) == ["vae-gan 4 pythae", "cvae 4"]


def test_one_number_that_differs_is_swept(configure: Any) -> None:
    weights = [configure("cvae", objective__kl_weight=weight) for weight in (1, 0.5, 2)]
    assert swept(weights) == ("objective.kl_weight", [1, 0.5, 2])
    assert swept([configure("cvae", seed=seed) for seed in (0, 1)]) is None
    assert swept([*weights, weights[0].model_copy(update={"seed": 1})]) is None
    assert swept([*weights, configure("vae", objective__kl_weight=3)]) is None
    assert swept([configure("cvae", objective__pixel_loss=kind) for kind in ("bce", "mse")]) is None
    assert swept([configure("ae"), configure("cvae")]) is None


def test_what_differs_is_named_where_headings_would_be_the_same(configure: Any) -> None:
    plain = configure("cvae")
    heavy = configure("cvae", objective__kl_weight=2)
    assert of(plain, heavy) == ["cvae 4 kl_weight 1", "cvae 4 kl_weight 2"]
    # Everything that differs, lists with their numbers; twins in their last word in full.
    decoder = ["label", "dense 9", "lrelu 0.2", "image"]
    game = configure("cgan")
    other = configure(
        "cgan",
        batch=4,
        optimiser__kind="rmsprop",
        optimiser__betas=[0.0, 0.9],
        schedule__kind="ratio",
        model__architecture__decoder=decoder,
    )
    assert of(game, other) == [
        "cgan 4 batch 8, decoder #1, optimiser.kind adam, betas 0 0.99, schedule.kind together",
        "cgan 4 batch 4, decoder #2, optimiser.kind rmsprop, betas 0 0.9, schedule.kind ratio",
    ]
    # Others keep their short headings, and a seed beside them changes nothing.
    beside = configure("cvae", seed=5, objective__kl_weight=2)
    assert of(heavy, configure("vae", classes=0), plain, beside) == [
        "cvae 4 kl_weight 2",
        "vae 4",
        "cvae 4 kl_weight 1",
        "cvae 4 kl_weight 2",
    ]


def test_recipes_are_named_before_settings(configure: Any) -> None:
    dense, larsen = configure("gan", classes=0), configure("gan", "larsen-small", classes=0)
    assert of(dense, larsen) == ["gan 4 dense", "gan 4 larsen"]
    heavy = configure("gan", classes=0, objective__adversarial_weight=0.5)
    assert of(dense, heavy, larsen) == [
        "gan 4 dense adversarial_weight 10",
        "gan 4 dense adversarial_weight 0.5",
        "gan 4 larsen",
    ]


def test_one_run_twice_is_refused(configure: Any) -> None:
    one = configure("cvae")
    again = one.model_copy(update={"data": "/elsewhere"})
    with pytest.raises(RunError, match=r"run-0 and run-2 are one run twice \(.*, seed 0\)"):
        of(one, configure("cvae", seed=1), again)
    path = Path("same")
    with pytest.raises(RunError, match="same and same are one run twice"):
        headings([path, path], [one, one])
