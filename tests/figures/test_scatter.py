import numpy as np
import pytest

from vaegan.errors import DataError
from vaegan.figures import theme
from vaegan.figures.scatter import plane, scatter


def share(image, color, blend=1.0):
    """Share of the picture's pixels in a colour, laid on white with opacity `blend`."""
    target = np.array(theme.rgb(color)) * blend + 255 * (1 - blend)
    return (np.abs(np.asarray(image) - target).max(2) <= 1.5).mean()


def spots(image, color, blend):
    target = np.array(theme.rgb(color)) * blend + 255 * (1 - blend)
    found = np.argwhere(np.abs(np.asarray(image) - target).max(2) <= 1.5)
    return found[:, ::-1].mean(0)  # x, y


@pytest.fixture(scope="module")
def means():
    return np.random.default_rng(0).normal(size=(400, 2))


def test_two_latents_are_drawn_as_they_are(means):
    points, names = plane(means)
    assert (points == means).all()
    assert names == ("latent 1", "latent 2")


def test_more_latents_are_rotated_about_the_prior_not_recentred():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    hidden = rng.normal(size=(5000, 6)) * [3, 2, 0.1, 0.1, 0.1, 0.1]
    centre = np.array([0.5, -0.3, 0.1, 0, 0, 0.2])
    points, names = plane((hidden + centre) @ turn.T)
    # The two directions found are the hidden axes, up to sign; the centre is kept.
    expected = (hidden + centre)[:, :2]
    for axis in (0, 1):
        sign = np.sign(points[:, axis] @ expected[:, axis])
        assert np.abs(points[:, axis] - sign * expected[:, axis]).max() < 0.1
    # The same rotation maps the origin, the prior's centre, to the origin.
    variance = hidden.var(0)
    assert names[0] == f"principal direction 1 · {variance[0] / variance.sum():.0%} of variance"
    assert names[1] == f"principal direction 2 · {variance[1] / variance.sum():.0%} of variance"


def test_a_standard_normal_stays_one_under_the_projection():
    points, _ = plane(np.random.default_rng(1).normal(size=(40000, 8)))
    inside = (np.linalg.norm(points, axis=1)[:, None] < [1, 2]).mean(0)
    assert np.abs(inside - (1 - np.exp([-0.5, -2.0]))).max() < 0.01


def test_the_sign_of_a_direction_does_not_depend_on_the_order_of_images():
    means = np.random.default_rng(2).normal(size=(500, 4)) * [4, 3, 2, 1]
    order = np.random.default_rng(3).permutation(500)
    a, b = plane(means)[0], plane(means[order])[0]
    assert np.allclose(a[order], b)


def test_one_latent_is_spread_over_the_second_axis():
    points, names = plane(np.linspace(-1, 1, 50)[:, None])
    assert (points[:, 0] == np.linspace(-1, 1, 50)).all()
    assert points[:, 1].std() > 0.3
    assert names[1] == "spread at random"


def test_classes_keep_their_colours_and_units_are_equal_on_both_axes():
    corners = np.array([[1.5, 1.5], [-1.5, 1.5], [-1.5, -1.5], [1.5, -1.5]])
    image = scatter(corners, np.arange(4), prior=False)
    a, b, c, d = (spots(image, theme.PALETTE[i], 0.72) for i in range(4))
    width, height = a[0] - b[0], c[1] - b[1]
    assert width > 300
    assert abs(width / height - 1) < 0.01
    assert abs(a[1] - b[1]) < 1.5 and abs(d[1] - c[1]) < 1.5
    assert abs(a[0] - d[0]) < 1.5 and abs(b[0] - c[0]) < 1.5
    # The legend shows the full colour of each class, and of no other.
    assert all(share(image, theme.PALETTE[i]) > 1e-5 for i in range(4))
    assert all(share(image, color) == 0 for color in theme.PALETTE[4:])


def test_rings_have_the_radius_of_one_and_two_deviations():
    corners = np.array([[1.5, 1.5], [-1.5, 1.5], [-1.5, -1.5], [1.5, -1.5]])
    page = np.asarray(scatter(corners, np.arange(4)))
    bare = np.asarray(scatter(corners, np.arange(4), prior=False))
    image = scatter(corners, np.arange(4))
    a, b, c, _ = (spots(image, theme.PALETTE[i], 0.72) for i in range(4))
    unit = (a[0] - b[0]) / 3
    centre = (a + c) / 2
    ink = np.abs(page - np.array(theme.rgb(theme.INK))).max(2) < 40
    row = np.flatnonzero(ink[round(centre[1]) - 3])  # just above the axis
    for radius in (-2, -1, 1, 2):
        assert np.abs(row - (centre[0] + radius * unit)).min() <= 3
    assert bare.shape == page.shape


def test_unlabelled_data_has_one_colour_and_no_side_column(means):
    image = scatter(means)
    labelled = scatter(means, np.arange(400) % 3)
    assert image.width < labelled.width
    assert image.height == labelled.height
    assert share(image, theme.PALETTE[0], 0.72) > 0.001
    assert all(share(image, c, 0.72) < 2e-6 for c in theme.PALETTE[1:])


def test_bars_mark_latents_in_use(means):
    image = scatter(means, kl=np.array([1.0, 0.001]))
    both = scatter(means, kl=np.array([1.0, 1.0]))
    assert share(image, theme.PALETTE[0]) > 0.002
    assert share(both, theme.PALETTE[0]) == pytest.approx(
        2 * share(image, theme.PALETTE[0]), rel=0.05
    )


def test_points_that_are_not_finite_are_left_out(means):
    labels = np.arange(400) % 3
    broken = np.concatenate([means, [[np.nan, 0], [np.inf, 1]]])
    image = scatter(broken, np.concatenate([labels, [0, 1]]))
    assert (np.asarray(image) == np.asarray(scatter(means, labels))).all()


def test_the_same_means_give_the_same_picture(means):
    labels = np.arange(400) % 12
    first, second = (np.asarray(scatter(means, labels, title="$5 <b>")) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("classes", [1, 11, 36, 200])
def test_any_number_of_classes_with_any_names_is_drawn(classes):
    rng = np.random.default_rng(0)
    labels = np.arange(600) % classes
    centres = np.stack([labels % 8, labels // 8], 1)
    names = [f"a very long name of class ${i} あ" for i in range(classes // 2)]
    image = scatter(
        centres + 0.1 * rng.normal(size=(600, 2)),
        labels,
        class_names=names,
        kl=np.ones(2),
        variances=np.ones(2),
        title="Many",
    )
    assert image.info["dpi"] == (theme.DENSITY, theme.DENSITY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"means": np.zeros(4)}, "(4,)"),
        ({"means": np.zeros((0, 2))}, "(0, 2)"),
        ({"means": np.full((4, 2), np.nan)}, "finite"),
        ({"means": np.zeros((4, 2)), "labels": np.zeros(3, int)}, "`labels`"),
        ({"means": np.zeros((4, 2)), "labels": np.zeros(4)}, "float64"),
        ({"means": np.zeros((4, 2)), "labels": np.full(4, -1)}, ">= 0"),
        ({"means": np.zeros((4, 2)), "kl": np.zeros(3)}, "`kl`"),
        ({"means": np.zeros((4, 2)), "variances": np.zeros(1)}, "`variances`"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    with pytest.raises(DataError) as error:
        scatter(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_means_that_are_all_the_same_are_drawn():
    assert scatter(np.zeros((20, 3)), np.zeros(20, int)).width > 100
    assert scatter(np.full((20, 2), 3.0), prior=False).width > 100
