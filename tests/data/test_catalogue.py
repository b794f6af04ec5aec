from pathlib import Path

import numpy as np
import pytest

from vaegan.data import Dataset, Split, catalogue, dataset_names, load_dataset
from vaegan.data.preparation import Preparation
from vaegan.data.sources import DatasetSource
from vaegan.errors import DataError

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(autouse=True)
def no_data_found(monkeypatch, tmp_path):
    """Hide the machine's own data sets, cache and network."""
    monkeypatch.delenv("VAEGAN_DATA", raising=False)
    monkeypatch.setattr(catalogue, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "cache")

    def offline(published, folder):
        raise DataError(f"download of {published.name} into {folder}")

    monkeypatch.setattr(catalogue, "download", offline)


def refusal(name: str) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names():
    assert dataset_names() == ("digits", "mnist", "fashion-mnist")
    assert isinstance(load_dataset("digits"), Dataset)
    assert isinstance(load_dataset("digits").train, Split)


@pytest.mark.parametrize(
    ("typed", "meant"), [("mnits", "mnist"), ("MNIST", "mnist"), ("fashion_mnist", "fashion-mnist")]
)
def test_unknown_name_suggests_the_nearest(typed, meant):
    message = refusal(typed)
    assert "known: digits, mnist, fashion-mnist" in message
    assert message.endswith(f"did you mean {meant}?")


def test_unusable_paths(tmp_path):
    assert "no data set or folder ''" in refusal("")
    assert "no data set or folder" in refusal(str(tmp_path / "absent"))
    for name in ("x" * 5000, "~nobody-of-this-name/x", "a\0b", "a\nb"):
        assert "no data set or folder" in refusal(name)
    (tmp_path / "picture.png").touch()
    assert "is a file: give the folder" in refusal(str(tmp_path / "picture.png"))
    message = refusal(str(tmp_path))
    assert "lacks train-images-idx3-ubyte[.gz]" in message
    assert "found: 'picture.png'" in message


def test_a_folder_gives_its_own_name(tmp_path, idx_folder, monkeypatch):
    folder = idx_folder(tmp_path / "glyphs")
    dataset = load_dataset(str(folder))
    assert (dataset.name, dataset.class_names) == ("glyphs", ("0", "1", "2"))
    monkeypatch.chdir(folder)
    assert load_dataset(".").name == "glyphs"
    assert load_dataset(Path()).fingerprint == dataset.fingerprint


def test_strangers_under_a_published_name_are_refused(tmp_path, idx_folder, monkeypatch):
    for folder in ("mnist", "."):
        root = tmp_path / folder.replace(".", "direct")
        idx_folder(root / folder)
        monkeypatch.setenv("VAEGAN_DATA", str(root))
        message = refusal("mnist")
        assert "are not those of mnist: give them as --data " in message


def test_unlabelled_and_prepared_folders(tmp_path, idx_folder):
    folder = idx_folder(tmp_path / "glyphs")
    for path in folder.glob("*labels*"):
        path.unlink()
    dataset = load_dataset(folder)
    assert (dataset.name, dataset.num_classes) == ("glyphs", 0)
    (tmp_path / "made").mkdir()
    preparation = Preparation(DatasetSource(dataset), tmp_path / "made")
    assert "is half prepared" in refusal(str(tmp_path / "made"))
    preparation.run(1, lambda stage, share: None)
    assert load_dataset(tmp_path / "made").fingerprint == dataset.fingerprint


def test_variable_that_names_no_folder(monkeypatch):
    monkeypatch.setenv("VAEGAN_DATA", "/no/such/place")
    assert "VAEGAN_DATA names '/no/such/place'" in refusal("mnist")


def test_download_is_the_last_resort(tmp_path, monkeypatch):
    assert refusal("mnist") == f"download of mnist into {tmp_path / 'cache' / 'mnist'}"
    monkeypatch.setenv("VAEGAN_DATA", str(tmp_path))
    assert "download of fashion-mnist" in refusal("fashion-mnist")


@pytest.fixture(scope="module")
def mnist(real_data):
    if not (real_data / "mnist").is_dir():
        pytest.skip("no mnist/ in the folder of real data")
    return load_dataset(str(real_data / "mnist"))


def test_mnist_facts(mnist):
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [55000, 5000, 10000]
    assert (mnist.name, mnist.image_size, mnist.channels) == ("mnist", (28, 28), 1)
    assert mnist.class_names == tuple("0123456789")
    train, validation = (np.bincount(s.labels) for s in (mnist.train, mnist.validation))
    assert (train + validation).tolist() == TRAIN_COUNTS
    assert np.bincount(mnist.test.labels).tolist() == TEST_COUNTS
    assert np.abs(validation - np.array(TRAIN_COUNTS) / 12).max() < 1

    # The mean and deviation that everybody normalises with.
    histogram = np.bincount(mnist.train.pixels.ravel(), minlength=256)
    histogram += np.bincount(mnist.validation.pixels.ravel(), minlength=256)
    values, share = np.arange(256) / 255, histogram / histogram.sum()
    mean = (values * share).sum()
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert np.sqrt((values**2 * share).sum() - mean**2) == pytest.approx(0.3081, abs=5e-5)
    # Frozen: the fixed split is part of the data.
    assert mnist.fingerprint == "d2a1b32917d115c12fb8aa9640e557a75b287ae74d5fa4b0dd0ef45dd9c0f29a"


@pytest.mark.parametrize("layout", ["subfolder", "direct", "system", "cache"])
def test_mnist_is_found_in_every_place(mnist, real_data, layout, tmp_path, monkeypatch):
    if layout == "subfolder":
        monkeypatch.setenv("VAEGAN_DATA", str(real_data))
    elif layout == "direct":
        monkeypatch.setenv("VAEGAN_DATA", str(real_data / "mnist"))
        assert "download of fashion-mnist" in refusal("fashion-mnist")
    elif layout == "system":
        monkeypatch.setattr(catalogue, "SYSTEM_FOLDER", real_data)
    else:
        monkeypatch.setattr(catalogue, "cache_folder", lambda: real_data)
        monkeypatch.setattr(catalogue, "download", lambda published, folder: folder)
    assert load_dataset("mnist").fingerprint == mnist.fingerprint


def test_one_wrong_pixel_is_not_mnist(mnist, real_data, tmp_path, monkeypatch):
    from vaegan.data.idx import read_idx_folder

    arrays = read_idx_folder(real_data / "mnist")
    assert catalogue._identify(arrays) is catalogue.MNIST
    arrays["train-images"][59_999, 27, 27] ^= 1
    assert catalogue._identify(arrays) is None


def test_fashion_mnist_facts(monkeypatch):
    folder = Path("/usr/share/datasets")
    if not (folder / "fashion-mnist").is_dir():
        pytest.skip("no /usr/share/datasets/fashion-mnist (Debian's dataset-fashion-mnist)")
    monkeypatch.setattr(catalogue, "SYSTEM_FOLDER", folder)
    dataset = load_dataset("fashion-mnist")
    assert dataset.class_names[0] == "T-shirt/top"
    assert dataset.class_names[9] == "Ankle boot"
    assert np.bincount(dataset.train.labels).tolist() == [5500] * 10
    assert np.bincount(dataset.validation.labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert load_dataset(folder / "fashion-mnist").class_names == dataset.class_names
    assert dataset.fingerprint == "923af577d52f214135b66efd3b6ba3a3163e809f515e472c524cc524a88af2ce"
