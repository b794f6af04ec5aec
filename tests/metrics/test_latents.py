import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vaegan.errors import DataError
from vaegan.metrics.distances import Moments
from vaegan.metrics.latents import (
    AggregatePosterior,
    active_units,
    kl_per_dimension,
    label_leak,
    prior_gap,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_kl_equals_torch_distributions(random: np.random.Generator) -> None:
    means, logvars = random.normal(size=(2, 50, 3))
    posterior = Normal(torch.tensor(means), torch.tensor(logvars).mul(0.5).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).mean(dim=0).numpy()
    assert kl_per_dimension(means, logvars) == pytest.approx(expected)
    assert kl_per_dimension(np.zeros((4, 2)), np.zeros((4, 2))).tolist() == [0, 0]


def test_active_units_are_those_whose_mean_varies(random: np.random.Generator) -> None:
    means = random.normal(size=(1000, 3)) * [1, 0.05, 0] + [0, 5, 7]
    assert active_units(means.astype(np.float32)).tolist() == [True, False, False]


def test_prior_gap_of_known_posteriors(random: np.random.Generator) -> None:
    # Means of variance 3/4 and posterior variance 1/4 add up to the prior
    means = random.normal(size=(200_000, 2)) * np.sqrt(0.75)
    gap = prior_gap(means, np.full_like(means, np.log(0.25)))
    assert gap.frechet < 1e-3 and gap.correlation < 0.01
    assert gap.deviation == pytest.approx([1, 1], abs=0.01)
    # A collapsed encoder gives the prior, exactly
    assert prior_gap(np.zeros((5, 2)), np.zeros((5, 2))).frechet == 0
    # A general case equals the general Frechet distance
    means = random.normal(size=(500, 3)) @ random.normal(size=(3, 3)) + 1
    logvars = random.normal(size=(500, 3))
    covariance = np.cov(means.T, bias=True) + np.diag(np.exp(logvars).mean(axis=0))
    expected = Moments(means.mean(axis=0), covariance, 500).distance(
        Moments(np.zeros(3), np.eye(3), 500)
    )
    assert prior_gap(means, logvars).frechet == pytest.approx(expected, rel=1e-6)
    single = prior_gap(np.array([[3.0]]), np.array([[0.0]]))
    assert (single.frechet, single.correlation) == pytest.approx((9, 0))


def test_label_leak_is_zero_for_noise_and_one_for_the_label(random: np.random.Generator) -> None:
    labels = np.arange(2000) % 4
    noise = random.normal(size=(2000, 5))
    nothing = label_leak(noise, labels)
    assert nothing.chance == pytest.approx(0.25, abs=0.03)
    assert nothing.leak < 0.06
    told = label_leak(noise + 10 * np.eye(5)[labels], labels)
    assert (told.linear, told.neighbours, told.leak) == (1, 1, 1)
    # Rings around one centre: no line tells them apart, neighbours do
    angle = random.uniform(0, 2 * np.pi, size=2000)
    rings = (1 + labels)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = label_leak(rings, labels)
    assert found.linear < 0.5 and found.neighbours > 0.98
    assert found.leak == pytest.approx((found.neighbours - found.chance) / (1 - found.chance))
    assert label_leak(rings, labels) == found
    assert label_leak(np.zeros((40, 2)), labels[:40]).leak < 0.2  # a collapsed encoder


def test_label_leak_refuses_too_little() -> None:
    with pytest.raises(DataError, match="at least 20 images of two classes"):
        label_leak(np.zeros((10, 2)), np.arange(10))
    with pytest.raises(DataError, match="1 classes"):
        label_leak(np.zeros((50, 2)), np.zeros(50, np.int64))


def test_aggregate_posterior_of_a_gaussian_has_the_exact_moments(
    random: np.random.Generator,
) -> None:
    labels = np.arange(600) % 2
    means = random.normal(size=(600, 3)) @ random.normal(size=(3, 3)) + 5 * labels[:, None]
    logvars = random.normal(size=(600, 3))
    density = AggregatePosterior(means, logvars, labels, components=1)
    for label in (0, 1):
        drawn = density.sample(60_000, label, seed=3)
        own = labels == label
        covariance = np.cov(means[own].T, bias=True) + np.diag(np.exp(logvars[own]).mean(axis=0))
        assert drawn.dtype == np.float32
        assert drawn.mean(axis=0) == pytest.approx(means[own].mean(axis=0), abs=0.05)
        assert np.cov(drawn.T) == pytest.approx(covariance, rel=0.05, abs=0.05)
    assert np.array_equal(density.sample(5, 1, seed=3), density.sample(50, 1, seed=3)[:5])
    assert not np.array_equal(density.sample(5, 1, seed=3), density.sample(5, 1, seed=4))


def test_aggregate_posterior_of_a_mixture_finds_the_modes(random: np.random.Generator) -> None:
    centres = np.array([[-6.0, 0], [6, 0], [0, 8]])
    means = centres[np.arange(900) % 3] + random.normal(size=(900, 2))
    density = AggregatePosterior(means, np.full((900, 2), -2.0), components=3)
    drawn = density.sample(3000)
    nearest = np.linalg.norm(drawn[:, None] - centres, axis=2)
    assert (nearest.min(axis=1) < 4).mean() > 0.99
    assert np.bincount(nearest.argmin(axis=1)) / 3000 == pytest.approx([1 / 3] * 3, abs=0.05)
    assert np.array_equal(density.sample(7), drawn[:7])
    few = AggregatePosterior(means[:10], np.zeros((10, 2)), components=3)  # too few for three
    assert np.isfinite(few.sample(100)).all()


def test_as_many_gaussians_as_held_out_codes_ask_for(random: np.random.Generator) -> None:
    labels = np.arange(1200) % 2
    one = random.normal(size=(1200, 2)) + 5 * labels[:, None]
    two = one + 8 * random.integers(2, size=(1200, 1))
    four = two + 30 * random.integers(2, size=(1200, 1))
    for codes, components in ((one, 1), (two, 2), (four, 4)):
        density = AggregatePosterior(codes, np.full((1200, 2), -3.0), labels)
        assert density.components == components
    assert AggregatePosterior(two[:3], np.zeros((3, 2))).components == 1  # too few to hold any out
    with pytest.raises(DataError, match=r"components \(=0\)"):
        AggregatePosterior(two, two, components=0)


def test_aggregate_posterior_of_a_tiny_class_and_of_wrong_labels() -> None:
    density = AggregatePosterior(np.ones((1, 4)), np.zeros((1, 4)), np.array([2]))
    assert np.abs(density.sample(20_000, 2).std(axis=0) - 1).max() < 0.03
    for label in (0, None):
        with pytest.raises(DataError, match=rf"label {label}; labels: \[2\]"):
            density.sample(3, label)
    with pytest.raises(DataError, match="fitted without labels"):
        AggregatePosterior(np.ones((3, 4)), np.zeros((3, 4))).sample(3, 1)
    with pytest.raises(DataError, match="not finite"):
        prior_gap(np.full((3, 1), np.inf), np.zeros((3, 1)))
    with pytest.raises(DataError, match=r"must both be \(N, d\)"):
        kl_per_dimension(np.zeros((3, 1)), np.zeros((3, 2)))
