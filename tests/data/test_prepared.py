"""Prepared data sets: what is on disk, what is read of it, what is refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vaegan.data import Dataset, Split, load_dataset
from vaegan.data.dataset import fingerprint_of
from vaegan.data.mapped import gathered, is_mapped, release
from vaegan.data.preparation import Preparation
from vaegan.data.prepared import Description, is_prepared
from vaegan.data.sources import DatasetSource
from vaegan.errors import DataError


def prepare(source, folder, workers=1, **options):
    """Prepare without a command line; the reasons of what was left out."""
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(source, folder, **options).run(workers, lambda stage, share: None)


@pytest.fixture
def folder(bars, tmp_path):
    """A prepared data set of 48 + 6 + 24 images, 8 x 8, 3 classes."""
    prepare(DatasetSource(bars()), tmp_path / "bars")
    return tmp_path / "bars"


def refusal(folder) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(one: Split, other: Split) -> bool:
    labels = one.labels is other.labels or np.array_equal(one.labels, other.labels)
    return np.array_equal(one.pixels, other.pixels) and labels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_round_trip(bars, tmp_path, channels, classes):
    dataset = bars((8, 10), classes, channels=channels)
    prepare(DatasetSource(dataset), tmp_path / "made", workers=2)
    read = load_dataset(tmp_path / "made")
    assert (read.name, read.class_names) == (dataset.name, dataset.class_names)
    assert all(
        same(getattr(read, part), getattr(dataset, part))
        for part in ("train", "validation", "test")
    )
    assert read.fingerprint == dataset.fingerprint
    names = {"dataset.json"} | {f"{p}-pixels.npy" for p in ("train", "validation", "test")}
    if classes:
        names |= {f"{p}-labels.npy" for p in ("train", "validation", "test")}
    assert {path.name for path in (tmp_path / "made").iterdir()} == names
    # Anybody's NumPy reads it.
    assert np.array_equal(np.load(tmp_path / "made/train-pixels.npy"), dataset.train.pixels)


def test_empty_splits(tmp_path):
    split = Split(np.full((3, 8, 8, 1), 7, np.uint8), None)
    none = split.take(np.arange(0))
    prepare(DatasetSource(Dataset("few", split, none, none)), tmp_path)
    read = load_dataset(tmp_path)
    assert (len(read.train), len(read.validation), len(read.test)) == (3, 0, 0)
    assert read.fingerprint == fingerprint_of(split, none, none)


def test_pixels_stay_in_the_file(folder, bars):
    dataset = load_dataset(folder)
    assert is_mapped(dataset.train.pixels) and is_mapped(dataset.train.pixels[3:5])
    assert not dataset.train.pixels.flags.writeable
    part = dataset.train.take(np.array([5, 0, -1]))
    assert not is_mapped(part.pixels) and part.pixels.flags.writeable
    assert same(part, bars().train.take(np.array([5, 0, -1])))
    few = np.arange(48) % 5 == 0
    assert np.array_equal(gathered(dataset.train.pixels, few), bars().train.pixels[few])
    # Other than C-contiguous views, too.
    odd = dataset.train.pixels[::2, :, 1:]
    assert np.array_equal(gathered(odd, np.array([3, 1])), bars().train.pixels[::2, :, 1:][[3, 1]])
    release(dataset.train.pixels)
    assert same(dataset.train, bars().train)
    with pytest.raises(IndexError):
        dataset.train.take(np.array([48]))


def test_a_prepared_set_is_not_resized_in_memory(folder):
    with pytest.raises(DataError) as caught:
        load_dataset(folder).resized(16)
    assert str(caught.value) == (
        "data set 'bars' is prepared at 8 x 8 pixels, not 16 x 16: prepare it again with "
        "`vaegan data prepare --image-size 16`"
    )


def test_mnist_keeps_its_fingerprint(real_data, tmp_path):
    if not (real_data / "mnist").is_dir():
        pytest.skip("no mnist/ in the folder of real data")
    prepare(DatasetSource(load_dataset(real_data / "mnist")), tmp_path)
    read = load_dataset(tmp_path)
    assert (read.name, len(read.train)) == ("mnist", 55_000)
    assert read.fingerprint == "d2a1b32917d115c12fb8aa9640e557a75b287ae74d5fa4b0dd0ef45dd9c0f29a"
    assert read.fingerprint == fingerprint_of(read.train, read.validation, read.test)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


def test_damage_is_refused(folder, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    file = "train-pixels.npy"
    content = (folder / file).read_bytes()
    for change, words in [
        (lambda: (folder / file).unlink(), [file, "is missing"]),
        (lambda: (folder / file).write_bytes(content[:-1]), [file, "cannot be read"]),
        (lambda: (folder / file).write_bytes(content + b"\0"), [file, "has 3201 bytes, not 3200"]),
        (lambda: (folder / file).write_bytes(content[64:]), [file, "cannot be read"]),
        (lambda: (folder / file).write_bytes(b""), [file, "cannot be read"]),
        (lambda: np.save(folder / file, np.zeros((48, 8, 9, 1), np.uint8)), ["(48, 8, 9, 1)"]),
        (lambda: np.save(folder / file, np.zeros((48, 8, 8, 1), np.int8)), ["holds int8"]),
        (lambda: np.save(folder / file, np.array([{}, None])), [file, "cannot be read"]),
        (lambda: np.save(folder / "test-labels.npy", np.zeros(24)), ["test-labels", "float64"]),
        (lambda: np.save(folder / "test-labels.npy", np.full(24, 3)), ["label 3", "out of range"]),
        (lambda: (folder / "dataset.json").write_text("{"), ["dataset.json is damaged"]),
        (lambda: (folder / "dataset.json").write_text("[" * 100_000), ["is damaged"]),
        (lambda: (folder / "dataset.json").write_bytes(b"\xff"), ["is damaged"]),
    ]:
        change()
        line = refusal(folder)
        assert all(word in line for word in words), line
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
    load_dataset(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "has format version 2; this program reads version 1"),
        ({"name": "../up"}, "name: String should match"),
        ({"image_size": [8]}, "image_size.1: Field required"),
        ({"image_size": [0, 8]}, "image_size.0"),
        ({"channels": 4}, "channels: Input should be less"),
        ({"fingerprint": "abc"}, "fingerprint"),
        ({"extra": 1}, "extra: Extra inputs"),
        ({"splits": {"train": -1}}, "splits.train"),
        ({"splits": {}}, "train-pixels.npy holds"),
        ({"class_names": ["a", "a", "b"]}, "repeats a class name"),
    ],
)
def test_descriptions_that_are_none(folder, change, words):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in refusal(folder)


def test_half_prepared(folder):
    (folder / "dataset.json").unlink()
    assert not is_prepared(folder)
    (folder / "preparation.jsonl").touch()
    assert is_prepared(folder)
    assert "is half prepared: give its `vaegan data prepare` once more" in refusal(folder)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────

PROGRAM = """
import sys
from pathlib import Path
from vaegan.data import load_dataset
from vaegan.data.dataset import fingerprint_of
from vaegan.settings import resolve
from vaegan.training import trainer_for

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096

dataset = load_dataset(sys.argv[1])
config = resolve(dataset, system="ae", recipe="dense", batch=128)
trainer = trainer_for(config, dataset)
for _ in range(3):
    trainer.step()
before = resident()
grown = []
for _ in range(120):
    trainer.step()
    grown.append(resident() - before)
fingerprint_of(dataset.train)
print(max(grown), resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/statm tells the resident size")
def test_training_on_a_large_file_keeps_memory_flat(tmp_path):
    # 200 MB of 64 x 64 images; 15,360 of the 51,200 are used, and their pages given back.
    shapes = {"train": (51_200, 64, 64, 1), "validation": (0, 64, 64, 1), "test": (0, 64, 64, 1)}
    for purpose, shape in shapes.items():
        np.lib.format.open_memmap(tmp_path / f"{purpose}-pixels.npy", "w+", np.uint8, shape)
    Description(
        name="many",
        class_names=(),
        image_size=(64, 64),
        channels=1,
        splits={purpose: shape[0] for purpose, shape in shapes.items()},
        fingerprint="0" * 64,
        source="zeros",
    ).write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    in_steps, after_fingerprint = map(int, done.stdout.split())
    assert in_steps < 30 << 20
    assert after_fingerprint < 40 << 20
