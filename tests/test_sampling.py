"""Samples as files: the images of `Model.sample`, bit for bit, whatever happens on the way."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from vaegan.batching import BATCH
from vaegan.errors import DataError, RunError, Unsupported
from vaegan.images import to_pixels
from vaegan.model import Model
from vaegan.sampling import class_folders, labels_beside, write_array, write_folder

N = 2 * BATCH + 44


def made(configure, system="cgan", seed=0, **settings):
    """A model whose images differ: its last layer starts at zero in no recipe, but nearly."""
    model = Model(configure(system, "default", **settings).model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def model(configure):
    return made(configure)


def files(folder):
    """The content of every file in a folder, by its path there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pixels_in(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image).reshape(8, 8, -1)


# ── what is written ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("system", "label"), [("cgan", None), ("cvae", 2), ("vae", None)])
def test_an_array_holds_the_samples_of_the_model(configure, tmp_path, system, label):
    model, path = made(configure, system), tmp_path / "deep" / "samples.npy"
    assert list(write_array(model, path, N, label, seed=5)) == [BATCH, BATCH, 44]
    array = np.load(path)
    assert array.dtype == np.uint8
    assert np.array_equal(array, to_pixels(model.sample(N, label, seed=5)))
    assert len(np.unique(array, axis=0)) > N // 2
    if system == "vae":
        assert [one.name for one in path.parent.iterdir()] == ["samples.npy"]
        return
    labels = np.load(labels_beside(path))
    assert labels.dtype == np.int64
    assert np.array_equal(labels, (5 + np.arange(N)) % 3 if label is None else np.full(N, 2))
    assert sorted(files(path.parent)) == ["samples-labels.npy", "samples.npy"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("system", "label"), [("cgan", None), ("cvae", 2), ("vae", None)])
def test_a_folder_holds_the_samples_of_the_model(configure, tmp_path, system, label, channels):
    model = made(configure, system)
    if channels == 3:
        model = Model(model.config.model_copy(update={"channels": 3}))
    folder = tmp_path / "samples"
    assert list(write_folder(model, folder, N, label, seed=5)) == [BATCH, BATCH, 44]
    expected = to_pixels(model.sample(N, label, seed=5))
    names = {"samples.json"}
    for k in range(N):
        place = "" if system == "vae" else f"class {(5 + k) % 3 if label is None else label}/"
        names.add(name := f"{place}{5 + k}.png")
        assert np.array_equal(pixels_in(folder / name), expected[k])
    assert set(files(folder)) == names


def test_an_image_depends_on_its_seed_alone(model, tmp_path):
    """The same seed and class, to the rounding of the convolutions, from another number on."""
    list(write_folder(model, tmp_path / "one", N, label=1, seed=0))
    list(write_folder(model, tmp_path / "other", 5, label=1, seed=BATCH + 7))
    for seed in range(BATCH + 7, BATCH + 12):
        one, other = (pixels_in(tmp_path / f / "class 1" / f"{seed}.png") for f in ("one", "other"))
        assert np.abs(one.astype(int) - other).max() <= 1


def test_no_more_is_drawn_at_a_time_than_a_batch(model, tmp_path):
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    for write, name in ((write_folder, "folder"), (write_array, "array.npy")):
        seen.clear()
        writing = write(model, tmp_path / name, N)
        assert next(writing) == BATCH
        assert seen == [BATCH], "nothing is drawn ahead"
        list(writing)
        assert seen == [BATCH, BATCH, 44]


# ── stopped, and gone on ─────────────────────────────────────────────────────────────────────────


def test_a_folder_goes_on_where_it_was_stopped(model, tmp_path):
    list(write_folder(model, tmp_path / "whole", N))
    expected = files(tmp_path / "whole")
    folder = tmp_path / "stopped"
    writing = write_folder(model, folder, N)
    next(writing)
    writing.close()
    assert len(files(folder)) == BATCH + 1
    # What a power cut leaves, and what someone took away.
    paths = [folder / f"class {seed % 3}" / f"{seed}.png" for seed in range(5)]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    paths[2].write_bytes(bytes(len(paths[2].read_bytes())))
    paths[3].unlink()
    kept = paths[4].stat().st_ino, paths[4].stat().st_mtime_ns
    assert list(write_folder(model, folder, N)) == [4, BATCH, 44]
    assert files(folder) == expected
    assert (paths[4].stat().st_ino, paths[4].stat().st_mtime_ns) == kept
    assert list(write_folder(model, folder, N)) == [0, 0, 0]
    # More of them, and others, may join.
    assert list(write_folder(model, folder, N + 2)) == [0, 0, 2]
    assert list(write_folder(model, folder, 3, label=0)) == [2]


def test_an_array_is_there_whole_or_not_at_all(model, tmp_path):
    writing = write_array(model, tmp_path / "array.npy", N)
    next(writing)
    assert not (tmp_path / "array.npy").exists()
    with pytest.raises(KeyboardInterrupt):
        writing.throw(KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["array.npy", "folder"])
def test_a_full_disk_is_one_line_and_nothing_half(model, tmp_path, name):
    model.save_pretrained(tmp_path / "model")
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from vaegan.errors import RunError; from vaegan.model import Model\n"
        "from vaegan.sampling import write_array, write_folder\n"
        "model, to, limit = Model.from_pretrained('model'), Path(sys.argv[1]), int(sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "write = write_array if to.suffix else write_folder\n"
        "if not to.suffix: next(write(model, to, 1))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try: list(write(model, to, 400))\n"
        "except RunError as error: print(error)\n"
    )
    limit = {"array.npy": 20_000, "folder": 60}[name]
    ended = subprocess.run(
        [sys.executable, "-c", program, name, str(limit)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.stdout.startswith(f"cannot write {name.removesuffix('.npy')}"), ended
    assert "File too large" in ended.stdout
    left = {"model/config.json", "model/model.safetensors"}
    if name == "folder":
        left |= {"folder/samples.json", "folder/class 0/0.png"}
    assert set(files(tmp_path)) == left


# ── what is refused, before anything is written ──────────────────────────────────────────────────


def test_another_models_samples_are_not_gone_on_with(model, configure, tmp_path):
    list(write_folder(model, tmp_path, 3))
    before = files(tmp_path)
    for other in (made(configure, seed=1), made(configure, "cvae"), made(configure, "vae")):
        with pytest.raises(
            RunError, match="holds samples of another model or temperature, or in another order: "
        ):
            list(write_folder(other, tmp_path, 6))
    assert files(tmp_path) == before
    (tmp_path / "samples.json").write_text("{")
    with pytest.raises(RunError, match="holds samples of another model"):
        list(write_folder(model, tmp_path, 6))
    # The model that was saved and loaded is the same model.
    list(write_folder(model, tmp_path / "again", 3))
    model.save_pretrained(tmp_path / "model")
    loaded = Model.from_pretrained(tmp_path / "model")
    assert list(write_folder(loaded, tmp_path / "again", 3)) == [0]
    assert json.loads((tmp_path / "again" / "samples.json").read_text())["system"] == "cgan"


def test_other_things_are_left_alone(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other things: give a new folder"):
        list(write_folder(model, tmp_path, 3))
    with pytest.raises(RunError, match="is a file: give a folder, or a name that ends in"):
        list(write_folder(model, tmp_path / "notes.txt", 3))
    for taken in ("array.npy", "array-labels.npy"):
        (tmp_path / taken).write_bytes(b"mine")
        with pytest.raises(RunError, match=f"{taken} is there already: remove it"):
            list(write_array(model, tmp_path / "array.npy", 3))
        (tmp_path / taken).unlink()
    (tmp_path / "array.npy").mkdir()
    with pytest.raises(RunError, match="is there already"):
        list(write_array(model, tmp_path / "array.npy", 3))
    assert list(files(tmp_path)) == ["notes.txt"]


@pytest.mark.parametrize("write", [write_array, write_folder])
def test_what_cannot_be_sampled_leaves_nothing(configure, tmp_path, write):
    for system, label, error, why in (
        ("ae", None, Unsupported, "has no prior"),
        ("vae", 1, Unsupported, "has no labels"),
        ("cvae", 3, DataError, "label 3 is out of range"),
        ("cvae", -1, DataError, "label -1 is out of range"),
    ):
        with pytest.raises(error, match=why):
            list(write(made(configure, system), tmp_path / "out.npy", 3, label))
    assert list(tmp_path.iterdir()) == []


# ── names ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("cat", "großer Hund"), ["cat", "großer Hund"]),
        (("T-shirt/top", "a:b"), ["T-shirt-top", "a-b"]),
        (("../../etc", "/root"), ["-..-etc", "-root"]),
        (("..", "b"), ["0", "1 b"]),
        (("", "b"), ["0", "1 b"]),
        (("A", "a"), ["0 A", "1 a"]),
        (("a/b", "a-b"), ["0 a-b", "1 a-b"]),
        ((), []),
    ],
)
def test_every_class_has_a_folder_of_its_own(names, folders):
    assert class_folders(names) == folders
