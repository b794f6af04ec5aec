import numpy as np
import pytest
from PIL import Image

from vaegan.errors import ConfigError, RunError
from vaegan.figures.output import save


def test_a_saved_picture_reads_back_equal(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.info["dpi"] = (192, 192)
    path = save(image, tmp_path / "new" / "folder" / "a.png")
    assert path == tmp_path / "new" / "folder" / "a.png"
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as again:
        assert again.format == "PNG"
        assert again.mode == "RGB"
        assert (np.asarray(again) == pixels).all()
        assert round(again.info["dpi"][0]) == 192


def test_a_picture_without_colour_is_stored_as_grey(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 1), np.uint8)
    with Image.open(save(Image.fromarray(pixels.repeat(3, 2)), tmp_path / "a.png")) as again:
        assert again.mode == "L"
        assert (np.asarray(again) == pixels[..., 0]).all()
        assert "dpi" not in again.info


def test_the_same_picture_gives_the_same_bytes(tmp_path):
    image = Image.effect_noise((40, 40), 50).convert("RGB")
    a, b = save(image, tmp_path / "a.png"), save(image, tmp_path / "b.png")
    assert a.read_bytes() == b.read_bytes()


def test_a_folder_in_the_way_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*a\.png"):
        save(Image.new("RGB", (4, 4)), tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_failure_leaves_the_old_picture(tmp_path, monkeypatch):
    old = save(Image.new("RGB", (4, 4)), tmp_path / "a.png").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RunError, match="space"):
        save(Image.new("RGB", (5, 5)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_other_file_types_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.jpg"):
        save(Image.new("RGB", (4, 4)), tmp_path / "a.jpg")
