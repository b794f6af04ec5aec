import numpy as np
import pytest
from scipy import stats

from vaegan.errors import DataError
from vaegan.metrics.bootstrap import (
    mean_interval,
    normal_interval,
    ratio_interval,
    resampled,
    seed_interval,
)


def test_mean_interval_agrees_with_the_normal_and_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2, size=400)
    found = mean_interval(values, resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.15 * half
    )
    theirs = stats.bootstrap((values,), np.mean, method="percentile", random_state=0)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)
    assert found.count == 400


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        found = mean_interval(random.normal(size=80), level=0.9, resamples=300)
        hits += found.low <= 0 <= found.high
    assert 0.83 <= hits / 200 <= 0.95


def test_groups_are_drawn_whole() -> None:
    """Ten copies of each of 50 values know no more than the 50 values."""
    values = np.random.default_rng(2).normal(size=50)
    alone = mean_interval(values, resamples=2000)
    copied = mean_interval(values.repeat(10), np.arange(50).repeat(10), resamples=2000)
    naive = mean_interval(values.repeat(10), resamples=2000)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)
    assert copied.count == 50


def test_ratio_of_independent_and_of_paired_means() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(3, 1, size=500), random.normal(2, 1, size=300)
    found = ratio_interval(a, b, resamples=3000)
    error = 1.5 * np.sqrt(a.var() / 500 / 9 + b.var() / 300 / 4)  # the delta method
    assert found.value == a.mean() / b.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    paired = ratio_interval(2 * b, b, paired=True)
    assert (paired.low, paired.value, paired.high) == pytest.approx((2, 2, 2))


def test_weights_of_resamples() -> None:
    counts = resampled(50, 400, seed=1)
    assert counts.shape == (400, 50) and (counts.sum(axis=1) == 50).all()
    assert counts.mean() == 1 and counts.var() == pytest.approx(0.98, abs=0.05)  # 1 - 1 / 50
    assert np.array_equal(counts, resampled(50, 400, seed=1))
    x = np.random.default_rng(4).normal(size=50)
    assert (counts @ x / 50).std() == pytest.approx(x.std() / np.sqrt(50), rel=0.1)


def test_interval_of_a_known_standard_error() -> None:
    found = normal_interval(3.0, 0.5, 100)
    assert (found.low, found.high) == pytest.approx((3 - 0.98, 3 + 0.98), abs=1e-4)
    assert (found.value, found.count, found.level) == (3, 100, 0.95)


def test_t_interval_over_seeds() -> None:
    values = [0.91, 0.94, 0.92]
    found = seed_interval(values)
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert str(found).startswith("0.9233 [")
    single = seed_interval([0.5])
    assert single.value == 0.5 and np.isnan(single.low) and single.count == 1


def test_repeatable_bounded_and_degenerate() -> None:
    values = np.arange(30.0)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values, seed=1) != mean_interval(values)
    assert mean_interval(np.array([1.0, np.nan, 1.0])).low == 1
    assert np.isnan(mean_interval(np.array([1.0])).low)
    for empty in (np.array([]), np.array([np.nan])):
        with pytest.raises(DataError, match="at least one finite value"):
            mean_interval(empty)
    with pytest.raises(DataError, match="at least one"):
        seed_interval([])
