import av
import numpy as np
import pytest
from PIL import Image

from vaegan.errors import ConfigError, DataError, RunError
from vaegan.figures import theme
from vaegan.figures.film import manifold_frame, write_film
from vaegan.figures.layout import plan
from vaegan.figures.sheet import draw


@pytest.fixture(scope="module")
def frames(digits):
    """A manifold that turns from noise to digits in twelve frames."""
    pixels = digits[0][:25].reshape(5, 5, 8, 8, 1).astype(float)
    noise = np.random.default_rng(0).normal(0, 60, (12, *pixels.shape))
    return [
        manifold_frame(
            np.clip(pixels * i / 11 + noise[i] * (1 - i / 11), 0, 255).astype(np.uint8),
            "3",
            i * 100,
            last_step=1100,
            scale=4,
        )
        for i in range(12)
    ]


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return pictures, stream.codec_context, stream.average_rate


def error(picture, frame):
    picture = picture[: frame.height, : frame.width].astype(int)
    return np.abs(picture - np.asarray(frame)).mean()


def test_mp4_decodes_to_the_frames_and_holds_the_last(frames, tmp_path):
    path = write_film(frames, tmp_path / "new" / "film.mp4", 12)
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]
    pictures, codec, rate = decode(path)
    assert len(pictures) == 12 + 18
    assert rate == 12
    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    for picture, frame in zip(pictures, frames, strict=False):
        assert error(picture, frame) < 4
    for held in pictures[12:]:
        assert error(held, frames[-1]) < 3
    # Frames are told apart by more than what the codec loses.
    assert error(pictures[0], frames[-1]) > 20


def test_mp4_begins_with_its_index(frames, tmp_path):
    data = write_film(frames, tmp_path / "film.mp4").read_bytes()
    assert data[4:8] == b"ftyp"
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_the_same_frames_give_the_same_file(frames, tmp_path, suffix):
    a = write_film(frames, tmp_path / f"a{suffix}").read_bytes()
    b = write_film((np.asarray(f) for f in frames), tmp_path / f"b{suffix}").read_bytes()
    assert a == b


def test_odd_sides_are_made_even(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (31, 45), np.uint8)
    frame = np.asarray(Image.fromarray(noise).resize((45, 31), Image.Resampling.BICUBIC))
    frame = np.kron(frame[:8, :12], np.ones((4, 4), np.uint8))[:31, :45]
    pictures, _, _ = decode(write_film([frame, 255 - frame], tmp_path / "f.mp4", 5, hold=0))
    assert [p.shape for p in pictures] == [(32, 46, 3)] * 2
    assert np.abs(pictures[0][:31, :45, 0].astype(int) - frame).mean() < 6
    assert np.abs(pictures[0][31].astype(int) - pictures[0][30]).mean() < 6


def test_webp_decodes_to_the_frames_and_holds_the_last(frames, tmp_path):
    path = write_film(frames, tmp_path / "film.webp", 10)
    with Image.open(path) as film:
        assert film.format == "WEBP"
        assert film.n_frames == 12
        assert film.info["loop"] == 0
        times = []
        for i, frame in enumerate(frames):
            film.seek(i)
            assert error(np.asarray(film.convert("RGB")), frame) < 5
            times.append(film.info["duration"])
    assert times == [100] * 11 + [1600]


def test_one_frame_is_a_film(frames, tmp_path):
    pictures, _, _ = decode(write_film(frames[:1], tmp_path / "f.mp4", 2))
    assert len(pictures) == 1 + 3


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_frames_of_two_sizes_leave_the_old_film(frames, tmp_path, suffix):
    path = write_film(frames[:2], tmp_path / f"film{suffix}")
    before = path.read_bytes()
    with pytest.raises(DataError, match="frame 1 is 20x10, the first is"):
        write_film([frames[0], np.zeros((10, 20, 3), np.uint8)], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_bad_films_are_one_line(frames, tmp_path):
    with pytest.raises(DataError, match="without frames"):
        write_film([], tmp_path / "a.mp4")
    with pytest.raises(DataError, match="float64"):
        write_film([np.zeros((4, 4, 3))], tmp_path / "a.mp4")
    with pytest.raises(DataError, match="4 channels"):
        write_film([np.zeros((4, 4, 4), np.uint8)], tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match=r"a\.gif"):
        write_film(frames, tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=r"`fps` \(=0\)"):
        write_film(frames, tmp_path / "a.mp4", 0)
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write_film(frames, tmp_path / "b.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["b.mp4"]


def test_a_frame_is_titled_label_and_step(digits):
    pixels = digits[0][:9].reshape(3, 3, 8, 8, 1)
    for name, title in (("3", "Label: 3, Step: 48000"), (None, "Step: 48000")):
        layout = plan(pixels.shape[:4], title=title, scale=5, gap=0, size=15)
        expected = np.asarray(draw(layout, pixels))
        shown = np.asarray(manifold_frame(pixels, name, 48000, scale=5))
        assert (shown[:, : expected.shape[1]] == expected).all()
        assert (shown[:, expected.shape[1] :] == 255).all()
        (line,) = layout.lines
        assert line.text == title


def test_all_frames_of_a_film_have_one_size(digits):
    pixels = digits[0][:225].reshape(15, 15, 8, 8, 1)
    names = ("3", "Ankle boot", "a name that is far too long " * 5)
    frames = [manifold_frame(pixels, name, 10**i) for name in names for i in range(8)]
    assert {frame.size for frame in frames} == {(15 * 8 * 7 + 48, 944)}
    for name in names:
        frames = [manifold_frame(pixels[:2, :2], name, 10**i, scale=1) for i in range(8)]
        assert len({frame.size for frame in frames}) == 1


@pytest.mark.parametrize(("step", "done"), [(0, 0), (250, 60), (1000, 239)])
def test_the_line_below_the_title_shows_the_progress(digits, step, done):
    pixels = digits[0][:225].reshape(15, 15, 8, 8, 1)[:10, :10]
    page = np.asarray(manifold_frame(pixels, "3", step, last_step=1000, scale=3))
    filled = (page == np.array(theme.rgb(theme.ACCENT))).all(2)
    assert filled.any(1).sum() == (3 if done else 0)
    assert filled.any(0).sum() == (done + 1 if done else 0)
    plain = np.asarray(manifold_frame(pixels, "3", step, scale=3))
    assert not (plain == np.array(theme.rgb(theme.ACCENT))).all(2).any()


@pytest.mark.slow
def test_a_manifold_film_is_small(digits, tmp_path):
    """Fifty frames of 15x15 images of 28 px that all change: about a megabyte."""
    large = np.stack(
        [
            np.asarray(Image.fromarray(p[..., 0]).resize((28, 28), Image.Resampling.BICUBIC))
            for p in digits[0][:450]
        ]
    ).reshape(2, 15, 15, 28, 28, 1)
    mix = np.linspace(0, 1, 50)
    films = [
        manifold_frame((large[0] * (1 - m) + large[1] * m).astype(np.uint8), "3", i, last_step=49)
        for i, m in enumerate(mix)
    ]
    assert films[0].width == 15 * 28 * 2 + 48
    assert write_film(films, tmp_path / "f.mp4").stat().st_size < 1_200_000
    assert write_film(films, tmp_path / "f.webp").stat().st_size < 4_000_000


def test_a_manifold_of_the_wrong_shape_is_one_line():
    with pytest.raises(DataError, match=r"\(3, 4, 4\)"):
        manifold_frame(np.zeros((3, 4, 4), np.uint8), "3", 1)
