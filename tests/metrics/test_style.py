import numpy as np
import pytest
from scipy import stats

from vaegan.data import Dataset
from vaegan.errors import DataError
from vaegan.metrics.morphometrics import Morphometrics, measure
from vaegan.metrics.style import (
    features_kept,
    score_transfer,
    share_by_cell,
    shuffled_within,
    style_kept,
)

K = 3


def strokes(thickness: np.ndarray, slant: np.ndarray, width: np.ndarray) -> Morphometrics:
    other = np.ones_like(thickness)
    return Morphometrics(thickness, slant, other, width, other, other)


@pytest.fixture
def sources() -> tuple[Morphometrics, np.ndarray]:
    """Sixty of each class; slant and width have class means 0.1 y and 10 + y."""
    random = np.random.default_rng(0)
    labels = np.arange(60 * K) % K
    n = len(labels)
    slant = 0.2 * random.normal(size=n) + 0.1 * labels
    width = (1 + labels) * random.normal(size=n) + 10 + labels
    return strokes(2 + random.random(n), slant, width), labels


def crossed(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Every source with every target label: origins and targets."""
    return np.repeat(np.arange(n), K), np.tile(np.arange(K), n)


def test_perfect_transfer_has_r_1_slope_1_bias_0(
    sources: tuple[Morphometrics, np.ndarray],
) -> None:
    real, labels = sources
    origin, target = crossed(len(labels))
    slant, width = (
        np.array([values[labels == c].mean() for c in range(K)])
        for values in (real.slant, real.width)
    )
    spread = np.array([real.width[labels == c].std() for c in range(K)])
    y = labels[origin]
    moved = strokes(
        real.thickness[origin],
        real.slant[origin] - slant[y] + slant[target],
        (real.width[origin] - width[y]) / spread[y] * spread[target] + width[target],
    )
    card = score_transfer(real, labels, moved, target, origin, num_classes=K)
    for kept in card.styles.values():
        for same in (False, True):
            means = kept.mean(same)
            assert (means["r"], means["slope"]) == pytest.approx((1, 1))
            assert means["abs_bias"] == pytest.approx(0, abs=1e-12)
        assert (kept.count == 60).all()
    for kept in card.shuffled.values():
        assert abs(kept.mean()["r"]) < 0.15


def test_cells_equal_a_loop_with_scipy(sources: tuple[Morphometrics, np.ndarray]) -> None:
    real, labels = sources
    random = np.random.default_rng(1)
    origin, target = crossed(len(labels))
    n = len(origin)
    moved = strokes(
        0.4 * real.thickness[origin] + 0.1 * random.random(n) + 1,
        0.5 * real.slant[origin] + 0.1 * random.normal(size=n),
        random.normal(size=n) * 2 + 9,
    )
    hits = random.random(n) < 0.7
    share = share_by_cell(hits, labels[origin], target, K)
    card = score_transfer(real, labels, moved, target, origin, num_classes=K)
    mean = [real.width[labels == c].mean() for c in range(K)]
    spread = [real.width[labels == c].std() for c in range(K)]
    for y in range(K):
        for z in range(K):
            cell = (labels[origin] == y) & (target == z)
            assert share[y, z] == hits[cell].mean()
            x = (real.width[origin[cell]] - mean[y]) / spread[y]
            t = (moved.width[cell] - mean[z]) / spread[z]
            line = stats.linregress(x, t)
            kept = card.styles["width"]
            assert kept.r[y, z] == pytest.approx(line.rvalue)
            assert kept.slope[y, z] == pytest.approx(line.slope)
            assert kept.bias[y, z] == pytest.approx(t.mean() - x.mean())
            raw = real.thickness[origin[cell]], moved.thickness[cell]
            kept = card.styles["thickness"]
            assert kept.bias[y, z] == pytest.approx(raw[1].mean() - raw[0].mean())
            assert kept.slope[y, z] == pytest.approx(stats.linregress(*raw).slope)
    off = ~np.eye(K, dtype=bool)
    assert card.styles["slant"].mean()["r"] == pytest.approx(card.styles["slant"].r[off].mean())
    assert card.styles["slant"].mean()["slope"] == pytest.approx(0.5, abs=0.06)


def test_a_collapsed_model_is_seen_in_the_slope(
    sources: tuple[Morphometrics, np.ndarray],
) -> None:
    """Nearly one picture per label may correlate; wholly one picture has no r, and is counted."""
    real, labels = sources
    origin, target = crossed(len(labels))
    faint = strokes(2 + 0.03 * real.thickness[origin], 0 * origin + 0.1, 5.0 + target)
    styles = score_transfer(real, labels, faint, target, origin, num_classes=K).styles
    thickness, slant = styles["thickness"].mean(), styles["slant"].mean()
    assert thickness["r"] == pytest.approx(1)
    assert thickness["slope"] == pytest.approx(0.03)
    assert np.isnan(slant["r"]) and slant["undefined"] == slant["cells"] == 6
    assert slant["slope"] == pytest.approx(0, abs=1e-12)
    assert "r" not in styles["slant"].intervals() and "slope" in styles["slant"].intervals()


def test_blank_images_and_tiny_cells_are_left_out_and_counted(
    sources: tuple[Morphometrics, np.ndarray],
) -> None:
    real, labels = sources
    origin = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:4]])
    target = np.full(len(origin), 2)
    values = real[origin]
    values.thickness[:7] = np.nan
    card = score_transfer(real, labels, values, target, origin, num_classes=K)
    kept = card.styles["thickness"]
    assert card.blank == 7
    assert kept.count[0, 2] == 53 and kept.count[1, 2] == 4
    assert kept.r[0, 2] == pytest.approx(1) and np.isnan(kept.r[1, 2])
    assert kept.mean()["cells"] == 2 and kept.mean()["undefined"] == 1
    assert kept.mean()["r"] == pytest.approx(1)
    assert np.isnan(kept.mean(same=True)["r"])


def test_digits_are_like_themselves_and_shuffling_is_repeatable(digits: Dataset) -> None:
    real, labels = measure(digits.test.pixels[:80]), digits.test.labels[:80]
    a, b = (score_transfer(real, labels, real, labels, num_classes=10, seed=3) for _ in range(2))
    means = a.styles["thickness"].mean(same=True)
    assert (means["r"], means["slope"], means["bias"]) == pytest.approx((1, 1, 0))
    for one, other in ((a.styles, b.styles), (a.shuffled, b.shuffled)):
        for style, kept in one.items():
            assert np.array_equal(kept.r, other[style].r, equal_nan=True)
            assert kept.intervals(True) == other[style].intervals(True)
    groups = labels % 3
    rows = shuffled_within(groups, np.random.default_rng(0))
    assert sorted(rows) == list(range(80)) and (groups[rows] == groups).all()
    assert (rows != np.arange(80)).mean() > 0.8


def test_a_draw_of_the_sources_equals_the_measure_of_the_drawn_pairs(
    sources: tuple[Morphometrics, np.ndarray],
) -> None:
    """Weights of the bootstrap against the same pairs written out as often."""
    real, labels = sources
    random = np.random.default_rng(4)
    origin, target = crossed(len(labels))
    moved = 0.6 * real.slant[origin] + 0.1 * random.normal(size=len(origin))
    drawn = random.integers(0, 4, size=len(labels))
    kwargs = {"class_mean": np.arange(3.0), "class_deviation": np.array([1.0, 2, 3])}
    draws = drawn[None, origin].astype(float)
    found = style_kept(real.slant[origin], moved, labels[origin], target, draws=draws, **kwargs)
    rows = np.repeat(np.arange(len(origin)), drawn[origin])
    y = labels[origin]
    expected = style_kept(real.slant[origin][rows], moved[rows], y[rows], target[rows], **kwargs)
    for name in ("r", "slope", "bias"):
        assert found.drawn[name][0] == pytest.approx(getattr(expected, name))


def test_intervals_are_as_wide_as_new_sources_scatter() -> None:
    """Deviation of the mean r and slope over 150 other sets of sources, against the bootstrap's."""
    random = np.random.default_rng(5)
    labels = np.arange(90) % K
    origin, target = crossed(90)
    found, halves = [], []
    for _ in range(150):
        values = random.normal(size=(90, 4))
        # What is made of one source hangs together: the same error in every class
        made = 0.7 * values[origin] + 0.5 * random.normal(size=(90, 1))[origin]
        real, moved = (strokes(2 + v[:, 0], v[:, 1], 10 + v[:, 2]) for v in (values, made))
        scalar = score_transfer(real, labels, moved, target, origin, num_classes=K)
        vector = features_kept(values, labels, made, target, origin, num_classes=K)
        kept = (scalar.styles["slant"], vector)
        found.append([one.mean()[name] for one in kept for name in ("r", "slope")])
        intervals = [one.intervals()[name] for one in kept for name in ("r", "slope")]
        halves.append([(i.high - i.low) / 2 for i in intervals])
    assert np.mean(halves, axis=0) / 1.96 == pytest.approx(np.std(found, axis=0), rel=0.25)
    assert {"r", "slope", "bias", "abs_bias", "retrieval"} == set(vector.intervals())


def test_features_of_one_dimension_agree_with_the_scalar(
    sources: tuple[Morphometrics, np.ndarray],
) -> None:
    real, labels = sources
    random = np.random.default_rng(2)
    origin, target = crossed(len(labels))
    moved = 0.6 * real.slant[origin] + 0.1 * random.normal(size=len(origin))
    scalar = style_kept(
        real.slant[origin],
        moved,
        labels[origin],
        target,
        class_mean=np.zeros(K),
        class_deviation=np.ones(K),
    )
    vector = features_kept(
        real.slant[:, None], labels, moved[:, None], target, origin, num_classes=K
    )
    assert vector.r == pytest.approx(scalar.r)
    assert vector.slope == pytest.approx(scalar.slope)


def test_retrieval_is_half_by_chance_and_one_when_the_source_is_known() -> None:
    random = np.random.default_rng(3)
    features, labels = random.normal(size=(120, 8)), np.arange(120) % K
    origin, target = crossed(120)
    near = features[origin] + 5.0 * np.eye(8)[target] + 0.01 * random.normal(size=(360, 8))
    kept = features_kept(features, labels, near, target, origin, num_classes=K)
    assert kept.mean()["retrieval"] == 1 and kept.mean()["r"] > 0.999
    lost = features_kept(
        features, labels, random.normal(size=(360, 8)), target, origin, num_classes=K
    )
    assert lost.mean()["retrieval"] == pytest.approx(0.5, abs=0.05)
    assert abs(lost.mean()["r"]) < 0.1
    flat = features_kept(features, labels, np.ones((360, 8)), target, origin, num_classes=K)
    assert flat.mean()["undefined"] == 6 and flat.mean()["slope"] == pytest.approx(0)


def test_wrong_input_is_one_clear_line(sources: tuple[Morphometrics, np.ndarray]) -> None:
    real, labels = sources
    with pytest.raises(DataError, match=r"target_labels must be in 0 \.\. 2, got 3 \.\. 3"):
        score_transfer(real, labels, real, labels * 0 + 3, num_classes=K)
    with pytest.raises(DataError, match="180 transferred images as many target labels"):
        score_transfer(real, labels, real, labels[:4], num_classes=K)
