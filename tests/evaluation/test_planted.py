"""Numbers that are known beforehand: of a perfect model, and of models with one planted fault."""

from __future__ import annotations

import numpy as np
import pytest

from vaegan.evaluation import Scores, evaluate

STYLES = ("thickness", "slant", "width")


@pytest.fixture(scope="module")
def scored(letters, judge, style, quick, true_glyph):
    """Return the function that evaluates a planted model, once for each kind."""
    known: dict[str, Scores] = {}

    def of(model, kind: str) -> Scores:
        if kind not in known:
            known[kind] = evaluate(
                model, letters, judge, classifier=quick, truth=true_glyph, style=style
            )
        return known[kind]

    return of


@pytest.fixture
def perfect(scored, planted) -> dict[str, float]:
    return scored(planted(), "planted").values


def test_perfect_samples_are_as_far_as_real_images(perfect) -> None:
    for kind in ("prior", "aggregate"):
        assert perfect[f"{kind}_frechet_distance"] < 3 * perfect["floor_frechet_distance"] < 0.1
        assert perfect[f"{kind}_label_accuracy"] == 1.0
        assert perfect[f"{kind}_precision"] > 0.9 and perfect[f"{kind}_recall"] > 0.9
        assert perfect[f"{kind}_diversity"] == pytest.approx(1, abs=0.1)
        assert perfect[f"{kind}_mean_gradient_ratio"] == pytest.approx(1, abs=0.02)
    for way in ("", "_of_real", "_reverse"):
        assert perfect[f"prior_classification_accuracy{way}"] > 0.99


def test_perfect_reconstructions_are_the_images(perfect) -> None:
    assert perfect["reconstruction_mse"] == 0 and perfect["reconstruction_ssim"] == 1
    assert perfect["reconstruction_psnr"] == pytest.approx(58.92, abs=0.01)
    assert perfect["reconstruction_frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert perfect["reconstruction_label_accuracy"] == 1
    assert perfect["reconstruction_laplacian_variance_ratio"] == 1


def test_perfect_transfer_reaches_the_label_and_keeps_the_style(perfect) -> None:
    assert perfect["transfer_label_accuracy"] == 1
    for style in STYLES:
        assert perfect[f"transfer_{style}_r"] > 0.95
        assert perfect[f"transfer_{style}_slope"] == pytest.approx(1, abs=0.05)
        assert perfect[f"transfer_{style}_bias"] == pytest.approx(0, abs=0.05)
        assert perfect[f"transfer_same_{style}_r"] == pytest.approx(1)
        assert perfect[f"transfer_same_{style}_bias"] == 0
        # 100 pairs in each of 6 cells: a chance mean of r has a deviation of 0.04.
        assert abs(perfect[f"transfer_shuffled_{style}_r"]) < 0.15
        assert abs(perfect[f"transfer_prior_{style}_r"]) < 0.15
    assert perfect["transfer_cycle_mse"] == 0 and perfect["transfer_cycle_latent_error"] == 0
    assert perfect["transfer_truth_mse"] == 0 and perfect["transfer_truth_ssim"] == 1
    assert perfect["transfer_truth_shuffled_ssim"] < 0.8


def test_perfect_transfer_keeps_the_features_of_style(perfect, letters, style) -> None:
    assert perfect["transfer_features_r"] > 0.95
    assert perfect["transfer_features_slope"] == pytest.approx(1, abs=0.05)
    assert perfect["transfer_features_retrieval"] > 0.97
    for name in ("r", "slope"):
        assert perfect[f"transfer_same_features_{name}"] == pytest.approx(1)
    # Two different letters that the encoder sees just alike are each other's draw, worth a half.
    seen = [style.features(letters.test.pixels[letters.test.labels == y]) for y in range(3)]
    draws = [np.triu((f[:, None] == f).all(2), 1).sum() / (len(f) * (len(f) - 1)) for f in seen]
    assert perfect["transfer_same_features_retrieval"] == pytest.approx(1 - np.mean(draws))
    assert abs(perfect["transfer_shuffled_features_r"]) < 0.1
    assert perfect["transfer_shuffled_features_retrieval"] == pytest.approx(0.5, abs=0.05)


def test_the_judge_would_not_see_that_the_style_is_kept(
    letters, judge, brief, planted, perfect
) -> None:
    """Why style has an encoder of its own: the judge of labels was trained to forget it."""
    values = evaluate(planted(), letters, judge, classifier=brief, style=judge).values
    assert values["transfer_features_r"] < 0.7 < perfect["transfer_features_r"]
    assert values["transfer_features_retrieval"] < 0.9 < perfect["transfer_features_retrieval"]


def test_perfect_latents_fill_the_prior_and_hide_the_label(perfect) -> None:
    assert perfect["latents_active_units"] == 2
    # KL of N(m, e^-6) averaged over m ~ N(0, 1): (1 + e^-6 - 1 + 6) / 2 a latent.
    assert perfect["latents_kl_per_latent"] == pytest.approx(3, abs=0.15)
    assert perfect["latents_prior_distance"] < 0.05
    assert perfect["latents_label_linear"] < perfect["latents_label_chance"] + 0.1


def test_intervals_hold_their_values(scored, planted) -> None:
    scores = scored(planted("slanting"), "slanting")
    assert {"reconstruction_mse", "transfer_cycle_mse", "transfer_truth_ssim"} <= set(
        scores.intervals
    )
    for name, (low, high) in scores.intervals.items():
        assert low <= scores.values[name] <= high
    for kind in ("transfer", "transfer_shuffled", "transfer_same", "transfer_prior"):
        for style in STYLES:
            assert {f"{kind}_{style}_{name}" for name in ("r", "slope", "bias")} <= set(
                scores.intervals
            )
    for kind in ("prior", "aggregate", "reconstruction", "floor"):
        for name in (
            "frechet_distance",
            "kernel_distance",
            "precision",
            "recall",
            "coverage",
            "mean_gradient_ratio",
            "laplacian_variance_ratio",
            "grey_share_ratio",
        ):
            assert f"{kind}_{name}" in scores.intervals
    for name in ("r", "slope", "retrieval"):
        low, high = scores.intervals[f"transfer_features_{name}"]
        assert 0 < high - low < 0.3
    low, high = scores.intervals["reconstruction_mse"]
    assert 0.5 * scores.values["reconstruction_mse"] < low < high


def test_a_model_that_forgets_the_style(scored, planted) -> None:
    found = scored(planted("forgetful"), "forgetful")
    values = found.values
    assert values["transfer_label_accuracy"] == 1
    for style in STYLES:
        assert values[f"transfer_{style}_slope"] == pytest.approx(0, abs=1e-9)
        assert np.isnan(values[f"transfer_{style}_r"])
    assert values["prior_diversity"] == 0
    assert values["transfer_cycle_latent_error"] > 0.9
    assert values["transfer_truth_ssim"] == pytest.approx(
        values["transfer_truth_shuffled_ssim"], abs=1e-9
    )
    assert found.as_json()["transfer_slant_r"] is None


def test_a_model_that_does_not_listen(scored, planted) -> None:
    found = scored(planted("deaf"), "deaf")
    assert found.values["prior_label_accuracy"] == pytest.approx(1 / 3, abs=0.08)
    assert found.values["transfer_label_accuracy"] == pytest.approx(1 / 3, abs=0.08)
    assert found.values["prior_classification_accuracy"] < 0.6
    assert found.values["prior_classification_accuracy_of_real"] > 0.99
    confusion = np.array(found.tables["prior_confusion"])
    assert confusion.shape == (3, 3) and confusion.sum(1) == pytest.approx(np.ones(3))
    assert confusion.max() < 0.5
    # All classes together look right; within a class everything is wrong.
    assert found.values["prior_frechet_distance"] < 0.5
    assert min(found.tables["prior_frechet_distance_by_class"]) > 5


def test_amplitude_and_bias_are_seen_beside_a_perfect_correlation(scored, planted) -> None:
    values = scored(planted("slanting"), "slanting").values
    assert values["transfer_slant_r"] > 0.98
    assert values["transfer_slant_slope"] == pytest.approx(0.5, abs=0.05)
    assert values["transfer_thickness_slope"] == pytest.approx(1, abs=0.12)
    assert values["transfer_thickness_bias"] == pytest.approx(0.5, abs=0.05)
    assert values["transfer_same_thickness_bias"] == pytest.approx(0.5, abs=0.05)
