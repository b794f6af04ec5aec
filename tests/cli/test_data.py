"""`vaegan data prepare`, and training on what it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaegan.data import load_dataset

DENSE = ["--recipe", "dense", "--steps", "4", "--batch", "8", "--device", "cpu"]
DIGITS = "digits: 1,197 training, 100 validation, 500 test images of 28x28x1, 10 classes"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written without being asked lands here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """30 grey images of 12 x 12 in two classes, and a file that is none."""
    draw = np.random.default_rng(0)
    for number in range(30):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").touch()
    return tmp_path / "photos"


def refused(vaegan: Any, *arguments: object) -> str:
    ended = vaegan(*arguments)
    assert (ended.code, ended.out) == (2, ""), ended.err
    lines = ended.err.splitlines()
    assert lines[-1].startswith("vaegan: ")
    return str(lines[-1])


def test_a_named_set(works: Any, tmp_path: Path) -> None:
    ended = works("data", "prepare", "digits", "--out", "deep/made")
    assert ended.out == "deep/made\n"
    assert ended.err.splitlines()[-1] == DIGITS
    assert load_dataset("deep/made").fingerprint == load_dataset("digits").fingerprint
    before = {path: path.read_bytes() for path in Path("deep/made").iterdir()}
    again = works("data", "prepare", "digits", "--out", "deep/made")
    assert (again.out, again.err) == (ended.out, f"nothing to do: deep/made holds {DIGITS}\n")
    assert {path: path.read_bytes() for path in Path("deep/made").iterdir()} == before


def test_a_finished_folder_of_other_images_is_not_what_was_asked_for(
    works: Any, vaegan: Any, photos: Path
) -> None:
    works("data", "prepare", "photos", "--out", "made", "--workers", 1)
    assert "nothing to do" in works("data", "prepare", "photos", "--out", "made").err
    (photos / "a" / "0.png").rename(photos / "a" / "new.png")
    for source in ("photos", "digits"):
        line = refused(vaegan, "data", "prepare", source, "--out", "made")
        assert f"made of other images than {source} has now: choose another --out" in line


def test_the_same_weights_from_prepared_and_unprepared_digits(works: Any, tmp_path: Path) -> None:
    works("data", "prepare", "digits", "--out", "made")
    works("train", "--data", "digits", *DENSE, "--outdir", "one")
    works("train", "--data", "made", *DENSE, "--outdir", "other")
    one, other = (Path(name, "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other
    configs = [json.loads(Path(name, "config.json").read_text()) for name in ("one", "other")]
    assert configs[1].pop("data") == str(tmp_path / "made") and configs[0].pop("data") == "digits"
    assert configs[0] == configs[1]
    # It is the same run, and every verb opens it.
    assert "nothing to do" in works("train", "--data", "made", *DENSE, "--outdir", "one").err
    works("reconstruct", "other")


def test_a_folder_of_images(works: Any, photos: Path) -> None:
    ended = works("data", "prepare", "photos", "--out", "made")
    lines = ended.err.splitlines()
    assert lines[0] == "not images, by their names: 1 files in photos"
    assert lines[-1] == "photos: 24 training, 2 validation, 4 test images of 12x12x1, 2 classes"
    assert load_dataset("made").class_names == ("a", "b")
    small = ["--out", "small", "--image-size", 8, "--channels", 3, "--workers", 1]
    works("data", "prepare", "photos", *small)
    dataset = load_dataset("small")
    assert (dataset.image_size, dataset.channels) == ((8, 8), 3)
    works("train", "--data", "made", *DENSE)
    config = json.loads(Path("runs/photos-cvae-gan/config.json").read_text())
    assert config["model"]["class_names"] == ["a", "b"]


def test_a_prepared_set_at_another_size(works: Any, vaegan: Any) -> None:
    works("data", "prepare", "digits", "--out", "made")
    line = refused(vaegan, "train", "--data", "made", "--image-size", 16, *DENSE)
    assert "is prepared at 28 x 28 pixels, not 16 x 16: prepare it again" in line
    works("data", "prepare", "made", "--out", "small", "--image-size", 16)
    works("train", "--data", "small", "--image-size", 16, *DENSE)
    works("train", "--data", "digits", "--image-size", 16, *DENSE, "--outdir", "other")
    small = Path("runs/digits-cvae-gan/model.safetensors").read_bytes()
    assert small == Path("other/model.safetensors").read_bytes()


def test_bad_files(works: Any, vaegan: Any, photos: Path) -> None:
    for number in (3, 7, 9, 11, 13):
        (photos / "b" / f"{number}.png").write_text("no picture")
    line = refused(vaegan, "data", "prepare", "photos", "--out", "made")
    assert "photos/b/" in line and "is no readable PNG" in line
    assert line.endswith("--skip-bad leaves out files that cannot be used")
    line = refused(vaegan, "train", "--data", "made", *DENSE)
    assert "'made' is half prepared" in line
    ended = works("data", "prepare", "photos", "--out", "made", "--skip-bad")
    last = ended.err.splitlines()[-1]
    assert last.startswith("left out 5: 'photos/b/") and last.endswith("; and 2 more")
    dataset = load_dataset("made")
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 25


def test_what_does_not_fit(vaegan: Any, works: Any, photos: Path) -> None:
    Image.new("L", (20, 12)).save(photos / "a" / "wide.png")
    prepare = ["data", "prepare"]
    for arguments, words in [
        (["photos", "--out", "made"], "several sizes (12 x 12, 12 x 20, ...): give --image-size"),
        (["photos", "--out", "photos/made"], "--out photos/made lies within photos"),
        (["photos", "--out", "photos"], "'photos' holds other files"),
        (["digits", "--out", "made", "--channels", "3"], "--channels 3: digits has 1"),
        (["nowhere", "--out", "made"], "no data set or folder 'nowhere'"),
        (["digits", "--out", "made", "--image-size", "4"], "Must be >= 8"),
        (["digits", "--out", "made", "--workers", "0"], "Must be >= 1"),
        (["digits"], "--out"),
    ]:
        assert words in refused(vaegan, *prepare, *arguments)
    assert not Path("made").exists() and not Path("photos/made").exists()
    works(*prepare, "digits", "--out", "made")
    line = refused(vaegan, *prepare, "digits", "--out", "made", "--image-size", 16)
    assert line == f"vaegan: made holds {DIGITS}: choose another --out"
    # Without preparing them, images are no data set; the remedy is said.
    assert "vaegan data prepare" in refused(vaegan, "train", "--data", "photos", *DENSE)


def test_other_settings_start_anew(works: Any, vaegan: Any, photos: Path) -> None:
    (photos / "b" / "3.png").write_text("no picture")
    refused(vaegan, "data", "prepare", "photos", "--out", "made")
    ended = works("data", "prepare", "photos", "--out", "made", "--image-size", 16, "--skip-bad")
    assert "photos or its settings changed: starting anew" in ended.err
    assert load_dataset("made").image_size == (16, 16)


# ── unlabelled ───────────────────────────────────────────────────────────────────────────────


def test_unlabelled_images_ask_for_an_unconditional_system(
    works: Any, vaegan: Any, photos: Path
) -> None:
    works("data", "prepare", "photos/a", "--out", "made")
    assert works("data", "prepare", "photos/a", "--out", "made").err.endswith(", unlabelled\n")
    for system, remedy in [([], "vae-gan"), (["--system", "cae"], "ae")]:
        line = refused(vaegan, "train", "--data", "made", *DENSE, *system)
        assert line == f"vaegan: data set 'a' has no labels; use --system {remedy}"
    works("train", "--data", "made", *DENSE, "--system", "vae-gan", "--outdir", "run")
    works("reconstruct", "run")
