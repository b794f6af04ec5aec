"""Measures of a look: against closed forms, independent implementations and `vaegan evaluate`."""

import math

import numpy as np
import pytest
import torch

from vaegan.config import ObjectiveConfig
from vaegan.data import load_dataset
from vaegan.images import to_images, to_pixels
from vaegan.looks import (
    PANELS,
    Sight,
    discriminator_cost,
    label_effect,
    label_read,
    linear_accuracy,
    look,
    spread,
)
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.distances import frechet_distance
from vaegan.metrics.fidelity import mean_gradient, ssim
from vaegan.metrics.judge import Judge
from vaegan.model import Model
from vaegan.prior import Prior
from vaegan.settings import resolve

CLASSES = 10


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ── measures ─────────────────────────────────────────────────────────────────────────────────────


def test_label_effect_is_the_share_of_the_deviation() -> None:
    # x = a z + b y with independent unit z, y: the effect is b / sqrt(a^2 + b^2).
    codes, labels = normal(400, 1, 64), normal(1, CLASSES, 64, seed=1)
    for a, b in ((1.0, 0.05), (1.0, 0.2), (0.0, 1.0)):
        assert label_effect(a * codes + b * labels) == pytest.approx(b / math.hypot(a, b), rel=0.1)
    assert label_effect(torch.zeros(4, CLASSES, 8)) == 0.0


def test_linear_accuracy_equals_linear_discriminant_analysis() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    labels = torch.arange(600) % 3
    means = normal(600, 5) + 1.2 * normal(3, 5, seed=1)[labels]
    fitted = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(means[:300], labels[:300])
    expected = fitted.score(means[300:], labels[300:])
    found = linear_accuracy(
        means[:300].double(), labels[:300], means[300:].double(), labels[300:], 3
    )
    assert found == pytest.approx(expected, abs=0.011)
    assert 0.5 < found < 0.95


def test_a_label_is_read_from_a_code_that_repeats_it_and_not_from_pure_style() -> None:
    labels = torch.arange(1000) % CLASSES
    style = normal(1000, 8)
    assert label_read(style, labels, CLASSES) < 0.2
    assert label_read(style + 5 * normal(CLASSES, 8, seed=1)[labels], labels, CLASSES) > 0.95
    # A class without any image is never read; a single class tells nothing.
    assert label_read(style, labels.clamp(max=3), CLASSES) < 0.8
    assert math.isnan(label_read(style, labels * 0, CLASSES))


ENTROPY = math.log(2)


@pytest.mark.parametrize(
    ("real", "fake"), [(0.01, 0.02), (0.3, 0.4), (ENTROPY, ENTROPY), (0.1, 1.6)]
)
def test_costs_are_weighed_against_a_guess(real, fake) -> None:
    rows = [{"real_cost": real, "fake_cost": fake}] * 10
    found = discriminator_cost(rows, ObjectiveConfig())
    assert found == pytest.approx((real + fake) / 2 / ENTROPY)
    assert math.isnan(discriminator_cost(rows[:9], ObjectiveConfig()))  # too few to tell


def test_uneven_weights_and_the_hinge_have_their_own_guess() -> None:
    # The tutorial weighs real : fake = 1 : 3: the best guess is 1/4, and costs H(1/4).
    tutorial = ObjectiveConfig(real_weight=0.25, prior_weight=0.5, reconstruction_weight=0.25)
    rows = [{"real_cost": -math.log(0.25), "fake_cost": -math.log(0.75)}] * 10
    assert discriminator_cost(rows, tutorial) == pytest.approx(1.0)
    hinge = ObjectiveConfig(adversarial_loss="hinge", real_weight=1, prior_weight=1)
    rows = [{"real_cost": 0.3, "fake_cost": 0.3, "gan": 0.06}] * 10
    assert discriminator_cost(rows, hinge) == pytest.approx(0.03)


def test_spread_is_the_root_mean_square_distance_of_pairs() -> None:
    images = normal(7, 3, 4)
    pairs = [(images[i] - images[j]).square().mean() for i in range(7) for j in range(7) if i != j]
    assert spread(images) == pytest.approx(torch.stack(pairs).mean().sqrt().item())


# ── a whole look ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def judge(digits, tmp_path_factory) -> Judge:
    settings = TrainingSettings(width=8, num_features=16, steps=60, batch=64)
    return Judge.trained_on(digits, tmp_path_factory.mktemp("judges"), settings=settings)


def sight(digits, system, judge=None, count=600) -> Sight:
    images = to_images(digits.train.pixels[:count])
    labels = torch.from_numpy(digits.train.labels[:count]) if system.startswith("c") else None
    return Sight(images, labels, judge)


def untrained(digits, system) -> Model:
    return Model(resolve(digits, system=system, recipe="dense").model, seed=1)


ROWS = [{"real_cost": 0.3, "fake_cost": 0.3, "gan": 0.3}] * 10
RECONSTRUCTED = {
    "latents_active_units",
    "reconstruction_mse",
    "reconstruction_ssim",
    "reconstruction_mean_gradient_ratio",
}
SAMPLED = {
    "prior_spread",
    "prior_spread_by_class",
    "prior_mean_gradient_ratio",
    "prior_frechet_distance",
}
CODE = {"latents_kl_per_latent", "latents_label_read"}
LABELLED = {"label_effect", "prior_label_accuracy"}
EXPECTED = {
    "ae": RECONSTRUCTED,
    "cae": RECONSTRUCTED | {"latents_label_read", "label_effect", "transfer_label_accuracy"},
    "vae": RECONSTRUCTED | SAMPLED | {"latents_kl_per_latent"},
    "cvae": RECONSTRUCTED | SAMPLED | CODE | LABELLED | {"transfer_label_accuracy"},
    "gan": SAMPLED | {"discriminator_cost"},
    "cgan": SAMPLED | LABELLED | {"discriminator_cost"},
}
EXPECTED["vae-gan"] = EXPECTED["vae"] | {"discriminator_cost"}
EXPECTED["cvae-gan"] = EXPECTED["cvae"] | {"discriminator_cost"}


@pytest.mark.parametrize("system", EXPECTED)
def test_a_look_has_the_values_of_the_system(digits, judge, system) -> None:
    found = look(untrained(digits, system), sight(digits, system, judge), ROWS, ObjectiveConfig())
    assert found.keys() == EXPECTED[system]
    drawn = {name for names in PANELS.values() for name in names}
    assert found.keys() - drawn <= {"prior_spread_by_class", "reconstruction_mse"}
    assert all(math.isfinite(v) for v in found.values() if not isinstance(v, list))
    without = look(untrained(digits, system), sight(digits, system), ROWS, ObjectiveConfig())
    judged = {"prior_frechet_distance", "prior_label_accuracy", "transfer_label_accuracy"}
    assert without.keys() == EXPECTED[system] - judged
    assert all(without[name] == found[name] for name in without)  # the same at every look


def test_values_are_those_of_the_full_measures(digits, judge) -> None:
    """With a decoder that shows one real image of each class, every value is known."""
    model, seen = untrained(digits, "cvae"), sight(digits, "cvae", judge)
    first = [int((seen.labels == k).nonzero()[0]) for k in range(CLASSES)]

    class Shelf(torch.nn.Module):
        """Draws the first real image of the class, as logits."""

        def __init__(self):
            super().__init__()
            self.prior = Prior(model.config.latent_dim)
            self.logits = torch.nn.Parameter(seen.images[first].clamp(1e-6, 1 - 1e-6).logit())

        def forward(self, latents, labels):
            return self.logits[labels]

    model.decoder = Shelf()
    found = look(model, seen, ROWS, ObjectiveConfig())
    assert found["prior_spread_by_class"] == [pytest.approx(0, abs=1e-6)] * CLASSES
    hits = judge.predict(seen.pixels[first]) == np.arange(CLASSES)
    assert found["prior_label_accuracy"] == pytest.approx(hits.mean())
    assert found["transfer_label_accuracy"] == pytest.approx(hits.mean())
    assert found["label_effect"] == pytest.approx(1.0)
    samples = seen.pixels[first].repeat(25, 0)
    expected = frechet_distance(judge.features(seen.pixels[:512]), judge.features(samples))
    assert found["prior_frechet_distance"] == pytest.approx(expected, rel=1e-3)
    ratio = mean_gradient(samples).mean() / mean_gradient(seen.pixels).mean()
    assert found["prior_mean_gradient_ratio"] == pytest.approx(ratio, rel=1e-3)
    made = to_pixels(seen.images[first])[seen.labels[:256]]
    assert found["reconstruction_ssim"] == pytest.approx(
        ssim(seen.pixels[:256], made).mean(), abs=1e-4
    )


def test_a_class_without_images_is_unknown(digits, judge) -> None:
    seen = sight(digits, "cvae", judge)
    kept = seen.labels != 3
    few = Sight(seen.images[kept], seen.labels[kept], judge)
    found = look(untrained(digits, "cvae"), few, ROWS, ObjectiveConfig())
    spreads = found["prior_spread_by_class"]
    assert spreads[3] is None and None not in spreads[:3] + spreads[4:]
    known = [share for share in spreads if share is not None]
    assert found["prior_spread"] == pytest.approx(sum(known) / 9)
