import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology, transform

from vaegan.data import Dataset
from vaegan.errors import DataError
from vaegan.metrics.morphometrics import Morphometrics, _squared_distances, measure

STEPS = np.array([[0, 0, 0], [0, 0, 1], [np.sqrt(2), 1, np.sqrt(2)]])


def columns(measures: Morphometrics) -> np.ndarray:
    return np.stack([getattr(measures, name) for name in measures.names()], axis=1)


def one_at_a_time(image: np.ndarray) -> list[float]:
    """The six measures of one image (H, W) by scikit-image, written from the paper."""
    up = (255 * transform.pyramid_expand(image, upscale=4, order=3)).astype(np.uint8)
    low, high = float(up.min()), float(up.max())
    ink = up >= low + 0.5 * (high - low)
    axis, distance = morphology.medial_axis(ink, return_distance=True, rng=0)
    steps = ndimage.correlate(axis.astype(float), STEPS, mode="constant")

    grey = up.astype(float)
    mass = grey.sum()
    x, y = np.arange(grey.shape[1])[None], np.arange(grey.shape[0])[:, None]
    mean_x, mean_y = (x * grey).sum() / mass, (y * grey).sum() / mass
    u11 = ((x - mean_x) * (y - mean_y) * grey).sum() / mass
    u02 = ((y - mean_y) ** 2 * grey).sum() / mass
    shear = u11 / u02
    left_of = [((x + 0.5 < t + shear * (y - mean_y)) * grey).sum() / mass for t in x[0]]
    above = [((y < t) * grey).sum() / mass for t in y[:, 0]]
    left, right = np.interp([0.01, 0.99], left_of, x[0])
    top, bottom = np.interp([0.01, 0.99], above, y[:, 0])
    return [
        2 * distance[axis].mean() / 4,
        np.arctan(-shear),
        (steps * axis).sum() / 4,
        (right - left) / 4,
        (bottom - top) / 4,
        ink.sum() / 16,
    ]


def assert_as_one_at_a_time(pixels: np.ndarray) -> None:
    ours = columns(measure(pixels))
    theirs = np.array([one_at_a_time(image[..., 0]) for image in pixels])
    off = np.abs(ours - theirs)
    # A pixel at the very threshold may fall on the other side: one image in a hundred or two.
    assert (off.mean(axis=0) <= [2e-3, 1e-5, 0.02, 1e-3, 1e-3, 2e-3]).all(), off.mean(axis=0)
    assert (np.median(off, axis=0) < 1e-3).all()
    assert all(np.corrcoef(ours[:, k], theirs[:, k])[0, 1] > 0.9995 for k in range(6))


def test_equals_scikit_image_one_at_a_time(digits: Dataset) -> None:
    assert_as_one_at_a_time(digits.test.pixels[:60])


@pytest.mark.slow
def test_equals_scikit_image_on_400_mnist_digits(mnist: Dataset) -> None:
    assert_as_one_at_a_time(mnist.test.pixels[5000:5400])


def test_reproduces_the_known_statistics_of_mnist(mnist: Dataset) -> None:
    """The first 150 test digits of each class; variance between the classes is omega squared."""
    rows = np.concatenate([np.flatnonzero(mnist.test.labels == c)[:150] for c in range(10)])
    measures, labels = measure(mnist.test.pixels[rows]), mnist.test.labels[rows]
    known = {
        "thickness": (2.48, 0.62, 0.001),
        "slant": (0.002, 0.224, 0.111),
        "length": (43.4, 11.0, 0.658),
        "width": (12.9, 3.9, 0.590),
        "height": (19.2, 0.95, 0.057),
    }
    tolerance = {"thickness": 0.01, "slant": 0.001, "length": 0.1, "width": 0.06, "height": 0.05}
    for name, (mean, deviation, between) in known.items():
        values = getattr(measures, name)
        class_mean = np.array([values[labels == c].mean() for c in range(10)])[labels]
        within = np.square(values - class_mean).sum() / (1500 - 10)
        total = np.square(values - values.mean()).sum()
        omega2 = (np.square(class_mean - values.mean()).sum() - 9 * within) / (total + within)
        assert values.mean() == pytest.approx(mean, abs=tolerance[name]), name
        assert values.std() == pytest.approx(deviation, abs=tolerance[name]), name
        assert omega2 == pytest.approx(between, abs=0.004), name


def capsule(thickness: float, slant: float = 0.0, half_length: float = 8.0) -> np.ndarray:
    """A straight stroke with round ends through the middle of 28 x 28, antialiased, (28, 28, 1).

    The distance to the stroke's axis is exact, so that thickness and slant are known.
    """
    fine = (np.arange(28 * 8) + 0.5) / 8 - 14
    y, x = np.meshgrid(fine, fine, indexing="ij")
    along = np.clip(x * np.sin(slant) - y * np.cos(slant), -half_length, half_length)
    distance = np.hypot(x - along * np.sin(slant), y + along * np.cos(slant))
    ink = (distance <= thickness / 2).reshape(28, 8, 28, 8).mean(axis=(1, 3))
    return np.rint(255 * ink).astype(np.uint8)[..., None]


def test_strokes_of_known_thickness() -> None:
    known = np.array([2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0])
    for slant in (0.0, 0.3, -0.5):
        found = measure(np.stack([capsule(t, slant) for t in known])).thickness
        assert np.abs(found - known).max() < 0.3
        assert np.polyfit(known, found, 1)[0] == pytest.approx(1, abs=0.06)


def test_strokes_of_known_slant_and_size() -> None:
    known = np.linspace(-0.6, 0.6, 13)
    found = measure(np.stack([capsule(2.5, slant) for slant in known]))
    assert np.abs(found.slant - known).max() < 0.02
    assert np.polyfit(known, found.slant, 1)[0] == pytest.approx(1, abs=0.03)
    upright = found[np.array([6])]
    assert upright.area[0] == pytest.approx(2.5 * 16 + np.pi * 1.25**2, rel=0.03)
    assert upright.height[0] == pytest.approx(16 + 2.5, abs=0.7)  # 1 % of the ink at each end
    double = measure(capsule(5.0)[None])  # the antialiased edges count as ink: take differences
    assert double.width[0] - upright.width[0] == pytest.approx(2.5, abs=0.25)


def test_sheared_digits_change_their_slant_by_the_shear(digits: Dataset) -> None:
    images = digits.test.pixels[:40, ..., 0]
    for shear in (-0.3, 0.2):
        matrix = np.array([[1, 0], [shear, 1]])  # (y, x) of the result -> (y, x) of the source
        offset = np.array([13.5, 13.5]) - matrix @ np.array([13.5, 13.5])
        sheared = np.stack(
            [
                ndimage.affine_transform(image.astype(float), matrix, offset, order=1)
                for image in images
            ]
        )
        before = measure(images[..., None])
        after = measure(np.rint(sheared).astype(np.uint8)[..., None])
        moved = np.tan(after.slant) - np.tan(before.slant)
        assert np.abs(moved - shear).mean() < 0.01
        assert np.corrcoef(after.thickness, before.thickness)[0, 1] > 0.8


def test_mirrored_digits_lean_the_other_way(digits: Dataset) -> None:
    pixels = digits.test.pixels[:50]
    one, other = measure(pixels), measure(pixels[:, :, ::-1])
    assert np.abs(one.slant + other.slant).max() < 1e-6
    assert np.array_equal(one.area, other.area)
    assert np.abs(one.thickness - other.thickness).mean() < 0.02


def test_results_do_not_depend_on_batch_or_threads(digits: Dataset) -> None:
    pixels = digits.test.pixels[:24]
    whole = columns(measure(pixels))
    for batch, threads in ((3, 1), (7, 2), (64, 3)):
        assert np.array_equal(columns(measure(pixels, batch, threads)), whole)


def test_blank_images_are_nan_and_leave_the_others_alone(digits: Dataset) -> None:
    pixels = digits.test.pixels[:4].copy()
    alone = columns(measure(pixels))
    pixels[1], pixels[3] = 0, 128
    found = measure(pixels)
    assert found.blank.tolist() == [False, True, False, True]
    assert np.isnan(columns(found)[[1, 3]]).all()
    assert np.array_equal(columns(found)[[0, 2]], alone[[0, 2]])
    assert len(measure(pixels[:0])) == 0


def test_odd_inputs_are_measured(digits: Dataset) -> None:
    grey = digits.test.pixels[:5]
    colour = columns(measure(grey.repeat(3, axis=3)))
    assert np.array_equal(colour, columns(measure(grey)))
    wide = np.pad(grey, ((0, 0), (0, 0), (6, 10), (0, 0)))
    assert columns(measure(wide)) == pytest.approx(columns(measure(grey)), abs=2e-3)
    dot, frame = np.zeros((2, 9, 9, 1), np.uint8)
    dot[4, 4] = 255
    frame[[0, -1]], frame[:, [0, -1]] = 255, 255
    found = columns(measure(np.stack([dot, frame])))
    assert np.isfinite(found).all()
    assert found[0, 0] < 2.5


@pytest.mark.parametrize(("height", "width"), [(30, 30), (112, 112), (20, 300)])
def test_distance_map_is_exact(height: int, width: int) -> None:
    ink = np.random.default_rng(0).random((4, height, width)) > 0.03
    ink[1] = True
    ink[1, 3, 5] = False  # hardly any paper: whole columns and rows of ink
    ink[2, :, : width // 2] = True
    expected = [ndimage.distance_transform_edt(image) ** 2 for image in ink]
    assert np.array_equal(_squared_distances(ink), np.rint(expected).astype(int))


def test_wrong_input_is_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"uint8 pixels \(N, H, W, C\), got float64 \(2, 28, 28\)"):
        measure(np.zeros((2, 28, 28)))


def test_ripples_beside_a_sharp_bar_count_as_width() -> None:
    """A limit of the definition: a spline overshoots black and white edges, not grey ones."""
    bars = np.zeros((3, 28, 28, 1), np.uint8)
    bars[0, 4:24, 13], bars[1, 4:24, 13:15], bars[2, 4:24, 13:17] = 255, 255, 255
    assert measure(bars).width == pytest.approx([4.70, 3.46, 4.98], abs=0.01)
