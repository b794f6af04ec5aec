import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vaegan import images as module
from vaegan.errors import DataError
from vaegan.images import outline, read_image_files, to_images, to_pixels

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
NOISE = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)


def refusal(function, *arguments, **named) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def read_one(path, channels: int = 1, **named) -> np.ndarray:
    """Read one file of whatever size it has; (H, W, C)."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        size = image.size if turned else image.size[::-1]
    return read_image_files([path], size, channels, **named)[0]


@pytest.fixture
def save(tmp_path):
    """Return a function that saves a Pillow image or an array and gives its path."""

    def save(image, name: str = "image.png", **options):
        path = tmp_path / name
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(path, **options)
        return path

    return save


# Tensors.


def test_every_value_survives_the_round_trip():
    pixels = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)[None]
    images = to_images(pixels)
    assert images.shape == (1, 3, 16, 16)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images[0, 0].flatten().tolist() == [float(np.float32(v) / 255) for v in range(256)]
    assert np.array_equal(to_pixels(images), pixels)
    assert np.array_equal(to_pixels(images.double()), pixels)
    assert np.array_equal(to_pixels(images.contiguous()), pixels)


def test_axes_go_where_they_belong():
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    images = to_images(pixels, "cpu")
    assert images.shape == (2, 3, 3, 4)
    assert round(images[1, 2, 0, 3].item() * 255) == pixels[1, 0, 3, 2]
    back = to_pixels(images)
    assert back.flags.c_contiguous
    assert np.array_equal(back, pixels)


def test_to_pixels_rounds_half_up_and_clamps():
    exact = torch.tensor([0.0, 0.5 / 256, 2.5 / 255, 3.5 / 255, 0.49999 / 255, 0.50001 / 255, 1.0])
    images = torch.cat([exact, torch.tensor([-1.0, 2.0, torch.inf, -torch.inf])])
    values = to_pixels(images.view(1, 1, 1, -1)).ravel().tolist()
    assert values == [0, 0, 3, 4, 0, 1, 255, 0, 255, 255, 0]


def test_to_images_leaves_read_only_memory_alone():
    pixels = np.frombuffer(RAMP.tobytes(), np.uint8).reshape(1, 16, 16, 1)
    images = to_images(pixels)
    images.zero_()
    assert np.array_equal(pixels[0, ..., 0], RAMP)


def test_tensors_of_another_kind_are_refused():
    assert "float32 (1, 2, 2, 1)" in refusal(to_images, np.zeros((1, 2, 2, 1), np.float32))
    assert "uint8 (2, 2, 1)" in refusal(to_images, np.zeros((2, 2, 1), np.uint8))
    assert "(1, 2, 2)" in refusal(to_pixels, torch.zeros(1, 2, 2))
    assert "NaN" in refusal(to_pixels, torch.full((1, 1, 1, 1), torch.nan))


def test_import_is_cheap():
    program = "import sys, vaegan.images; print({'torch', 'PIL'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


# The rules for each kind of file.


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.gif"])
def test_lossless_formats_read_exactly(save, name):
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(RAMP, name, **options)
    assert np.array_equal(read_one(path)[..., 0], RAMP)
    assert np.array_equal(read_one(path, 3), np.repeat(RAMP[..., None], 3, axis=2))


def test_jpeg(save):
    path = save(np.full((8, 8), 77, np.uint8), "a.jpg", quality=100)
    assert np.array_equal(read_one(path), np.full((8, 8, 1), 77))


def test_the_name_of_a_file_does_not_matter(save, tmp_path):
    path = save(RAMP).rename(tmp_path / "picture.jpg")
    assert np.array_equal(read_one(path)[..., 0], RAMP)


def test_one_bit_becomes_0_and_255(save):
    bits = np.eye(9, dtype=bool)
    path = save(Image.fromarray(bits))
    with Image.open(path) as image:
        assert image.mode == "1"
    assert np.array_equal(read_one(path)[..., 0], bits * 255)


def test_16_bit_grey_is_scaled_by_257_and_not_clipped(save):
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(wide)
    read = read_one(path)[..., 0]
    assert np.array_equal(read, np.floor(wide / 257 + 0.5).astype(np.uint8))
    assert np.array_equal(read.ravel()[::257], np.arange(256))
    assert np.bincount(read.ravel()).max() == 257


def test_16_bit_colour_is_its_high_byte(tmp_path):
    # Pillow cannot write this kind, so write the chunks: 2 pixels, RGB, 16 bits.
    samples = struct.pack(">6H", 0x0000, 0x8000, 0xFFFF, 0x12FF, 0x3400, 0x56AB)
    path = tmp_path / "wide.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" + samples))
        + chunk(b"IEND", b"")
    )
    assert read_one(path, 3).tolist() == [[[0x00, 0x80, 0xFF], [0x12, 0x34, 0x56]]]


def test_palette_gives_its_colours(save):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    image.putdata([0, 1, 2])
    path = save(image)
    assert read_one(path, 3).tolist() == [[[255, 0, 0], [0, 255, 0], [1, 2, 3]]]
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B, rounded.
    assert read_one(path, 1).ravel().tolist() == [76, 150, 2]


def test_palette_with_a_transparent_colour(save):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    path = save(image, transparency=0)
    assert read_one(path, 3).tolist() == [[[0, 0, 0], [0, 0, 255]]]
    assert read_one(path, 3, ground=255).tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize("ground", [0, 255, 100])
def test_alpha_is_laid_on_the_ground(save, ground):
    alpha = np.arange(256).reshape(16, 16)
    rgba = np.stack([*(np.full((16, 16), v) for v in (10, 200, 255)), alpha], axis=-1)
    path = save(rgba.astype(np.uint8))
    colours = rgba[..., :3] * alpha[..., None] / 255 + ground * (255 - alpha[..., None]) / 255
    assert np.array_equal(read_one(path, 3, ground=ground), np.floor(colours + 0.5))


def test_grey_with_alpha(save):
    both = np.stack([np.full((1, 3), 200), [[0, 51, 255]]], axis=-1).astype(np.uint8)
    path = save(Image.fromarray(both, "LA"))
    assert read_one(path).ravel().tolist() == [0, 40, 200]
    assert read_one(path, ground=255).ravel().tolist() == [255, 244, 200]


def test_transparent_grey_of_8_and_16_bits(save):
    path = save(np.array([[5, 9]], np.uint8), "a.png", transparency=9)
    assert read_one(path, ground=77).ravel().tolist() == [5, 77]
    path = save(np.array([[0, 65535, 514]], np.uint16), "b.png", transparency=65535)
    with Image.open(path) as image:
        assert image.info["transparency"] == 65535
    assert read_one(path).ravel().tolist() == [0, 0, 2]


def test_black_ink_on_nothing_is_said_to_vanish(save):
    ink = np.zeros((6, 6, 4), np.uint8)
    ink[2:4, 2:4, 3] = 255
    path = save(ink)
    assert "vanishes on the ground (=0)" in refusal(read_image_files, [path], (6, 6), 1)
    drawn = read_one(path, ground=255)[..., 0]
    assert np.array_equal(drawn, 255 - ink[..., 3])
    # An image that is opaque, or clear, all over is no such case.
    assert read_one(save(np.zeros((2, 2, 4), np.uint8))).max() == 0


def test_cmyk_becomes_rgb(save):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[..., 0] = 255
    path = save(Image.fromarray(inks, "CMYK"), "a.jpg", quality=100)
    with Image.open(path) as image:
        assert image.mode == "CMYK"
    red, green, blue = read_one(path, 3).reshape(-1, 3).mean(axis=0)
    assert red < 3
    assert min(green, blue) > 252


@pytest.mark.parametrize(
    ("orientation", "stored"),
    # What a camera stores for the upright image, by the EXIF 2.3 table of orientations.
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: np.rot90(a, 2).T),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_exif_orientation_is_applied(save, orientation, stored):
    upright = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(np.ascontiguousarray(stored(upright)), exif=exif)
    assert np.array_equal(read_one(path)[..., 0], upright)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_first_frame_of_an_animation(save, name):
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (40, 90)]
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(frames[0], name, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert np.unique(read_one(path)).tolist() == [40]


# Sizes.


def test_order_and_shape(save):
    paths = [save(np.full((2, 3), v, np.uint8), f"{v}.png") for v in (9, 3, 7)]
    read = read_image_files(paths, (2, 3), 3)
    assert read.shape == (3, 2, 3, 3)
    assert read.dtype == np.uint8
    assert read[:, 0, 0, 0].tolist() == [9, 3, 7]


def test_another_size_is_refused_with_both_sizes(save):
    path = save(np.zeros((40, 30), np.uint8), "tall.png")
    message = refusal(read_image_files, [path], (28, 20), 1)
    assert "tall.png" in message
    assert "is 30 x 40 (width x height), the model takes 20 x 28" in message


def test_resize_keeps_the_aspect_and_pads_with_the_ground(save):
    path = save(np.full((40, 20, 3), 200, np.uint8))
    read = read_image_files([path], (28, 28), 3, resize=True, ground=9)[0]
    assert np.unique(read[:, 7:21]).tolist() == [200]
    assert np.unique(read[:, :7]).tolist() == [9]
    assert np.unique(read[:, 21:]).tolist() == [9]
    wide = read_image_files([save(np.full((1, 4000), 5, np.uint8))], (28, 28), 1, resize=True)
    assert wide.sum() == 28 * 5


def test_resize_antialiases_and_enlarges(save):
    checks = (np.indices((280, 280)).sum(axis=0) % 2 * 255).astype(np.uint8)
    read = read_image_files([save(checks)], (28, 28), 1, resize=True)
    assert np.abs(read[0, 2:-2, 2:-2].astype(int) - 127.5).max() < 4
    large = read_image_files([save(np.full((7, 7), 99, np.uint8))], (28, 28), 1, resize=True)
    assert np.unique(large).tolist() == [99]


def test_transparent_pixels_have_no_colour_when_resized(save):
    # White ink among clear pixels stored as red: on a white ground nothing is to be seen of it.
    rgba = np.zeros((56, 56, 4), np.uint8)
    rgba[..., 0] = 255
    rgba[14:42, 14:42] = 255
    rgba[20, 20] = (0, 0, 0, 255)
    read = read_image_files([save(rgba)], (28, 28), 3, resize=True, ground=255)[0]
    assert np.array_equal(read[..., 0], read[..., 1])
    assert np.unique(read[13:]).tolist() == [255]


# Files that cannot be used.


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG that declares this size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def test_all_bad_files_are_listed_at_once(save, tmp_path):
    whole = save(NOISE, "good.png").read_bytes()
    bad = {
        "cut.png": whole[: len(whole) // 2],
        "text.png": b"not an image",
        "empty.png": b"",
        "large.png": png_claiming(4001, 4000),
        "bomb.png": png_claiming(60_000, 60_000),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    save(RAMP, "scan.tiff")
    save(np.zeros((3, 5), np.uint8), "small.png")
    (tmp_path / "folder.png").mkdir()
    names = [*bad, "scan.tiff", "small.png", "folder.png", "absent.png"]
    paths = [tmp_path / name for name in ["good.png", *names]]
    message = refusal(read_image_files, paths, (16, 16), 1)
    assert message.startswith("9 of 10 images cannot be used: ")
    reasons = dict(zip(names, message.split(": ", 1)[1].split("; "), strict=True))
    for name, words in {
        "cut.png": "cannot be read (",
        "text.png": "is no readable PNG, JPEG, WEBP, BMP, GIF",
        "empty.png": "is no readable",
        "large.png": "is 4001 x 4000, more than 16000000 pixels",
        "bomb.png": "is larger than 16000000 pixels",
        "scan.tiff": "is no readable",
        "small.png": "is 5 x 3 (width x height), the model takes 16 x 16",
        "folder.png": "is no file",
        "absent.png": "does not exist",
    }.items():
        assert name in reasons[name]
        assert words in reasons[name]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif"])
def test_a_file_cut_short_is_never_filled_up(save, name):
    path = save(NOISE, name)
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.8):
        path.write_bytes(whole[: int(share * len(whole))])
        message = refusal(read_image_files, [path], (16, 16), 1)
        assert "cannot be read" in message or "is no readable" in message


def test_large_files_are_not_opened(save, monkeypatch):
    path = save(RAMP)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    assert f"has {path.stat().st_size} bytes, more than 10" in refusal(
        read_image_files, [path], (16, 16), 1
    )


def test_wrong_arguments(save):
    path = save(RAMP)
    assert "name at least one" in refusal(read_image_files, [], (16, 16), 1)
    assert "channels (=2)" in refusal(read_image_files, [path], (16, 16), 2)
    assert "ground (=256)" in refusal(read_image_files, [path], (16, 16), 1, ground=256)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF"]),
    place=st.floats(0, 1, exclude_max=True),
    noise=st.binary(min_size=1, max_size=6),
    cut=st.booleans(),
)
def test_damaged_files_give_an_image_or_one_line(tmp_path, kind, place, noise, cut):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(RAMP).save(stream, kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}))
    content = stream.getvalue()
    at = int(place * len(content))
    path = tmp_path / "damaged"
    path.write_bytes(content[:at] + noise + (b"" if cut else content[at + len(noise) :]))
    try:
        read = read_image_files([path], (16, 16), 3)
    except DataError as error:
        assert "damaged" in str(error)
        assert "\n" not in str(error)
    else:
        assert read.shape == (1, 16, 16, 3)
        assert read.dtype == np.uint8


# ── what a file's ground is ──────────────────────────────────────────────────────────────────


def test_the_ground_is_what_lies_at_the_edge(tmp_path):
    """And nothing is said of it where most of the edge is transparent."""
    ink = np.full((6, 9), 200, np.uint8)
    ink[2:4, 3:5] = 10
    whole, none = np.full_like(ink, 255), np.zeros_like(ink)
    none[2:4, 3:5] = 255
    grey, deep = Image.fromarray(ink), Image.fromarray(ink.astype(np.uint16) * 257)
    for name, image, level in (
        ("grey", grey, 200),
        ("deep", deep, 200),
        ("colour", Image.merge("RGB", (grey, grey, Image.fromarray(none))), 400 / 3),
        ("opaque", Image.merge("LA", (grey, Image.fromarray(whole))), 200),
        ("clear", Image.merge("LA", (grey, Image.fromarray(none))), None),
    ):
        image.save(tmp_path / f"{name}.png")
        found, blank = outline(tmp_path / f"{name}.png")
        assert (found == pytest.approx(level) if level else found is None) and not blank, name
    for image in (Image.new("RGB", (5, 4), (200, 0, 0)), Image.new("LA", (5, 4))):
        image.save(tmp_path / "blank.png")
        assert outline(tmp_path / "blank.png")[1]
