import numpy as np
import pytest
from scipy import linalg
from sklearn.neighbors import NearestNeighbors

from vaegan.errors import DataError
from vaegan.metrics import distances
from vaegan.metrics.distances import (
    Moments,
    Reference,
    compare_features,
    compare_features_by_class,
    distance_errors,
    frechet_distance,
    kernel_distance,
    moments,
    neighbourhoods,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def covariance(random: np.random.Generator, size: int) -> np.ndarray:
    root = random.normal(size=(size, size))
    return root @ root.T / size


def test_frechet_distance_of_known_gaussians(random: np.random.Generator) -> None:
    # Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2
    mean = random.normal(size=(2, 6))
    deviation = random.uniform(0.1, 2, size=(2, 6))
    a, b = (Moments(m, np.diag(s**2), 100) for m, s in zip(mean, deviation))
    expected = np.square(mean[0] - mean[1]).sum() + np.square(deviation[0] - deviation[1]).sum()
    assert a.distance(b) == pytest.approx(expected, rel=1e-10)
    # One covariance a multiple of the other: tr (S + c^2 S - 2 c S) = (c - 1)^2 tr S
    s = covariance(random, 6)
    a, b = Moments(mean[0], s, 100), Moments(mean[0], 9 * s, 100)
    assert a.distance(b) == pytest.approx(4 * np.trace(s), rel=1e-10)


def test_frechet_distance_equals_a_general_matrix_root(random: np.random.Generator) -> None:
    a = random.normal(size=(300, 20)) @ random.normal(size=(20, 20))
    b = random.normal(size=(200, 20)) @ random.normal(size=(20, 20)) + 1
    s, t = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(s @ t).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)
    assert moments(a).covariance == pytest.approx(s, rel=1e-12)


def test_frechet_distance_of_a_set_to_itself_is_zero_even_if_singular(
    random: np.random.Generator,
) -> None:
    a = random.normal(size=(100, 3)) @ random.normal(size=(3, 10))  # rank 3 in 10 dimensions
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 2) == pytest.approx(40, rel=1e-6)
    constant = np.ones((30, 4), np.float32)
    assert frechet_distance(constant, constant * 2) == pytest.approx(4)


def test_fewer_images_than_features_is_one_clear_line(random: np.random.Generator) -> None:
    few, many = random.normal(size=(8, 8)), random.normal(size=(9, 8))
    with pytest.raises(DataError, match="8 images, 8 features; give at least 9 images"):
        frechet_distance(many, few)
    assert frechet_distance(many, many) == pytest.approx(0, abs=1e-9)
    values, problems = compare_features(few, few)
    assert set(values) == {"kernel_distance", "precision", "recall", "density", "coverage"}
    assert problems == [
        "no frechet_distance: the Frechet distance needs more images than features: 8 images, "
        "8 features; give at least 9 images"
    ]
    values, problems = compare_features(few[:1], few[:1])
    assert values == {} and len(problems) == 3


def test_kernel_distance_equals_its_sums_over_pairs(random: np.random.Generator) -> None:
    a, b = random.normal(size=(23, 5)), random.normal(size=(31, 5)) + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 5 + 1) ** 3)

    within = [
        np.mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
        for x in (a, b)
    ]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-10)


def test_kernel_distance_is_unbiased(random: np.random.Generator) -> None:
    found = [
        kernel_distance(*random.normal(size=(2, 20, 3))) for _ in range(400)
    ]  # same distribution: zero on average, whatever the number of images
    assert abs(np.mean(found)) < 4 * np.std(found) / 20


def test_neighbourhoods_equal_an_independent_search(random: np.random.Generator) -> None:
    k = 4
    real, fake = random.normal(size=(120, 6)), 0.8 * random.normal(size=(90, 6)) + 0.4
    reach_real, reach_fake = (
        NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k] for x in (real, fake)
    )
    distance = np.linalg.norm(real[:, None] - fake[None], axis=2)
    found = neighbourhoods(real, fake, k)
    assert found.precision == (distance <= reach_real[:, None]).any(axis=0).mean()
    assert found.recall == (distance <= reach_fake[None]).any(axis=1).mean()
    assert found.density == pytest.approx((distance <= reach_real[:, None]).sum() / k / 90)
    assert found.coverage == (distance.min(axis=1) <= reach_real).mean()


def test_neighbourhoods_know_fidelity_from_variety(random: np.random.Generator) -> None:
    real = random.normal(size=(500, 4)) + 100  # far from the origin: no loss of digits
    narrow = 0.1 * random.normal(size=(500, 4)) + 100
    found = neighbourhoods(real, narrow)
    assert found.precision > 0.99 and found.recall < 0.05 and found.coverage < 0.3
    far = neighbourhoods(real, real + 50)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    same = neighbourhoods(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    fresh = neighbourhoods(random.normal(size=(2000, 4)), random.normal(size=(2000, 4)))
    assert fresh.density == pytest.approx(1, abs=0.05)
    twins = neighbourhoods(np.zeros((9, 3)), np.zeros((9, 3)))  # all alike: nobody is out of reach
    assert (twins.precision, twins.recall, twins.coverage) == (1, 1, 1)


def test_results_do_not_depend_on_the_block(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = random.normal(size=(2, 150, 8)).astype(np.float32)
    whole, _ = compare_features(real, fake)
    monkeypatch.setattr(distances, "BLOCK", 7)
    parts, _ = compare_features(real, fake)
    assert parts == pytest.approx(whole, rel=1e-12)


def test_a_reference_gives_the_same_and_is_computed_once(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = random.normal(size=(2, 60, 4))
    reference = Reference(real)
    expected = compare_features(real, fake)
    assert compare_features(reference, fake) == expected
    reach = distances._reach
    counted: list[int] = []
    monkeypatch.setattr(distances, "_reach", lambda x, k: counted.append(k) or reach(x, k))
    assert compare_features(reference, fake) == expected
    assert counted == [5]  # of the generated ones alone


def test_errors_are_as_large_as_distances_of_new_sets_scatter(random: np.random.Generator) -> None:
    found, errors = [], []
    for _ in range(120):
        real, fake = random.normal(size=(300, 4)), random.normal(size=(240, 4)) + 0.5
        found.append((frechet_distance(real, fake), kernel_distance(real, fake)))
        errors.append(list(distance_errors(real, fake).values()))
    assert np.mean(errors, axis=0) == pytest.approx(np.std(found, axis=0), rel=0.25)


def test_errors_of_the_kernel_distance_are_scaled_up_from_fewer_images(
    random: np.random.Generator,
) -> None:
    real, fake = random.normal(size=(6000, 3)), random.normal(size=(6000, 3)) + 1
    all_of_them = distance_errors(real[:1500], fake[:1500])["kernel_distance"]
    assert distance_errors(real, fake)["kernel_distance"] == pytest.approx(all_of_them / 2)
    assert distance_errors(real[:2], fake) == {}


def test_by_class_takes_each_label_apart(random: np.random.Generator) -> None:
    real, fake = random.normal(size=(2, 200, 4))
    real_labels, fake_labels = np.arange(200) % 2, np.arange(200) // 195
    values, problems = compare_features_by_class(real, real_labels, fake, fake_labels)
    assert values[0]["frechet_distance"] == frechet_distance(real[::2], fake[:195])
    assert set(values[1]) == {"frechet_distance", "kernel_distance"}
    assert problems == [
        "label 1: no precision, recall, density, coverage: 5 image(s) are too few: give at least 6"
    ]


def test_features_that_are_not_finite_are_refused() -> None:
    broken = np.full((10, 2), np.nan)
    with pytest.raises(DataError, match="not finite"):
        frechet_distance(broken, broken)
    with pytest.raises(DataError, match=r"must be \(N, F\)"):
        kernel_distance(np.zeros(4), np.zeros((4, 1)))
