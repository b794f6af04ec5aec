import numpy as np
import pytest

from vaegan.errors import DataError
from vaegan.figures import theme
from vaegan.figures.curves import columns, curves, grouped, logarithmic, short_names, smooth


def has(image, color):
    return (np.asarray(image) == np.array(theme.rgb(color))).all(2).sum()


def rows(count=100, **values):
    return [
        {"step": i + 1, "seconds": i / 10} | {name: f(i) for name, f in values.items()}
        for i in range(count)
    ]


def test_smoothing_keeps_constants_and_straight_lines():
    assert np.allclose(smooth(np.full(50, 3.0), 4), 3)
    line = np.arange(100.0)
    assert np.allclose(smooth(line, 3)[10:-10], line[10:-10])


def test_smoothing_is_the_gaussian_weighted_mean():
    values = np.random.default_rng(0).normal(size=40)
    width = 2.0
    weights = np.exp(-0.5 * ((np.arange(40) - 20) / width) ** 2)
    weights[np.abs(np.arange(40) - 20) > 3 * width] = 0
    assert smooth(values, width)[20] == pytest.approx((weights * values).sum() / weights.sum())


def test_smoothing_reduces_noise_by_the_known_factor():
    noise = np.random.default_rng(0).normal(size=200_000)
    # A Gaussian kernel of deviation s leaves a variance of 1 / (2 s sqrt(pi)).
    assert smooth(noise, 5).var() == pytest.approx(1 / (2 * 5 * np.sqrt(np.pi)), rel=0.05)


def test_nan_stays_and_does_not_spread():
    values = np.full(30, 2.0)
    values[[10, 11]] = np.nan
    assert np.isnan(smooth(values, 3)).nonzero()[0].tolist() == [10, 11]
    assert np.nanmax(np.abs(smooth(values, 3) - 2)) < 1e-12


@pytest.mark.parametrize("values", [[5.0], [1.0, 3.0]])
def test_smoothing_of_almost_nothing(values):
    assert np.allclose(smooth(np.array(values), 1 / 60), values)


@pytest.mark.parametrize(
    ("values", "log"),
    [
        (np.geomspace(1, 1000, 50), True),
        (np.geomspace(1, 20, 50), False),
        (np.append(np.geomspace(1, 1000, 50), np.nan), True),
        (np.append(np.geomspace(1, 1000, 50), 0.0), False),
        (-np.geomspace(1, 1000, 50), False),
        (np.append(np.ones(1000), 1e6), False),  # one spike is no reason
        (np.array([1.0]), False),
        (np.array([np.nan, np.nan]), False),
    ],
)
def test_logarithmic_when_values_span_decades(values, log):
    assert logarithmic(values) is log


def test_columns_sort_merge_and_mask():
    steps, series = columns(
        [
            {"step": 2, "kl": 1.0},
            {"step": 3, "kl": 9.0},
            {"step": 1, "kl": 0.5, "judge": 0.7, "note": "text"},
            {"step": 3, "kl": 2.0, "judge": None},
        ]
    )
    assert steps.tolist() == [1, 2, 3]
    assert series["kl"].tolist() == [0.5, 1.0, 2.0]
    assert series["judge"].tolist() == [0.7, None, None]
    assert set(series) == {"step", "kl", "judge"}


def panels_of(*names, flags=(), **values):
    series = {n: np.ma.masked_array([0.0, 1.0], [False, False]) for n in names}
    series |= {n: np.ma.masked_array(v, [False] * len(v)) for n, v in values.items()}
    return grouped(series, flags)


def test_names_with_a_part_in_common_share_a_panel():
    names = ("encoder_steps", "kl", "encoder_loss", "decoder_loss", "encoder_gradient", "step")
    assert panels_of(*names, "decoder_steps") == {
        "losses": ["encoder_loss", "decoder_loss"],
        "KL divergence, nats": ["kl"],
        "encoder_gradient": ["encoder_gradient"],
        "updates of each network a step": ["encoder_steps", "decoder_steps"],
    }
    assert panels_of("a/x", "b", "a/y") == {"a": ["a/x", "a/y"], "b": ["b"]}


def test_shares_are_named_so_and_left_out_when_always_whole():
    flags = {"encoder_steps", "decoder_steps"}
    assert panels_of("kl", flags=flags, encoder_steps=[1, 1], decoder_steps=[1, 1]) == {
        "KL divergence, nats": ["kl"]
    }
    assert panels_of(flags=flags, encoder_steps=[1, 1], decoder_steps=[1, 0]) == {
        "updated, share of steps": ["encoder_steps", "decoder_steps"]
    }


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["loss/encoder", "loss/decoder"], ["encoder", "decoder"]),
        (["encoder_loss", "decoder_loss"], ["encoder", "decoder"]),
        (["real_cost", "fooling"], ["real cost", "fooling"]),
        (["prior_label_accuracy", "transfer_label_accuracy"], ["prior", "transfer"]),
        (["feature_matching"], ["feature matching"]),
    ],
)
def test_short_names(names, short):
    assert short_names(names) == short


@pytest.mark.parametrize(
    ("count", "across", "down"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3)]
)
def test_panels_fill_a_grid(count, across, down):
    image = curves(rows(**{f"v{i}": lambda i: i for i in range(count)}))
    assert image.size == (
        int(theme.DENSITY * (3.7 * across + 0.1)),
        int(theme.DENSITY * (2.35 * down + 0.17)),
    )


def test_not_finite_values_are_marked_in_the_accent():
    sound = curves(rows(kl=lambda i: float(i)))
    broken = curves(rows(kl=lambda i: float("nan") if 40 < i < 44 else float(i)))
    assert has(sound, theme.ACCENT) == 0
    assert has(broken, theme.ACCENT) > 5
    # A value that was not measured is no such thing.
    sparse = curves(rows(kl=float, judge=lambda i: 0.5 if i % 10 == 0 else None))
    assert has(sparse, theme.ACCENT) == 0


def test_a_share_is_drawn_from_flags_counts_and_numbers_alike():
    half = lambda i: i % 2 == 0
    a, b, c = (
        np.asarray(curves(rows(flag=f), groups={"f": ["flag"]}, shares=s))
        for f, s in (
            (half, ()),
            (lambda i: 3.0 * half(i), ["flag"]),
            (lambda i: 1.0 * half(i), ["flag"]),
        )
    )
    assert (a == b).all() and (a == c).all()
    # As plain numbers the picture is another.
    assert (
        a != np.asarray(curves(rows(flag=lambda i: 1.0 * half(i)), groups={"f": ["flag"]}))
    ).any()


def test_one_network_has_one_colour_in_every_panel():
    image = curves(
        rows(
            encoder_loss=float,
            decoder_loss=lambda i: 2.0 * i,
            decoder_gradient=float,
            encoder_gradient=lambda i: 2.0 * i,
        )
    )
    page = np.asarray(image)
    left, right = page[:, : image.width // 2], page[:, image.width // 2 :]
    for color in theme.PALETTE[:2]:
        target = np.array(theme.rgb(color))
        # Encoder is blue left and right, though it comes second on the right, where it is steeper.
        top = [np.argwhere((half == target).all(2))[:, 0].mean() for half in (left, right)]
        assert (top[0] > top[1]) == (color == theme.PALETTE[0])


def test_one_row_is_a_dot():
    image = curves([{"step": 5, "loss": 3.2}])
    assert has(image, theme.PALETTE[0]) > 60


def test_a_value_that_never_was_finite_does_not_spoil_the_rest():
    image = curves(rows(kl=lambda i: float("inf"), loss=float), title="$x_1$ <b>")
    assert has(image, theme.PALETTE[0]) > 500


def test_many_long_names_stay_inside_their_panel():
    names = {f"loss/{'very ' * 6}long name {i} あ": lambda i: float(i) for i in range(8)}
    page = np.asarray(curves(rows(**names)))
    assert (page[:, -20:] == 255).all()


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        ([], "no rows"),
        ([{"loss": 1.0}], "step None"),
        ([{"step": "3", "loss": 1.0}], "step '3'"),
        ([{"step": 3, "seconds": 1.0}], "no value to draw among seconds, step"),
    ],
)
def test_bad_input_is_one_line(stats, words):
    with pytest.raises(DataError) as error:
        curves(stats)
    assert words in str(error.value)


def test_asking_for_values_that_are_not_there():
    with pytest.raises(DataError, match="no value to draw"):
        curves(rows(kl=float), groups={"a": ["b"]})
