import gzip
import hashlib
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vaegan.data.idx import dataset_of_idx, idx_digest, read_idx, read_idx_folder
from vaegan.errors import DataError

SHARED_FOLDER = [HealthCheck.function_scoped_fixture]  # each example overwrites the one file
ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=9))


@st.composite
def mutations(draw):
    """Return a function that flips bits of some bytes, cuts, inserts or doubles."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "delete", "double", "set"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    early = draw(st.booleans())  # half of all mutations hit the first 24 bytes
    bits, extra = draw(st.integers(1, 255)), draw(st.binary(min_size=1, max_size=9))

    def mutate(content: bytes) -> bytes:
        at = int(place * min(len(content), 24 if early else len(content)))
        head, byte, tail = content[:at], content[at : at + 1], content[at + 1 :]
        return {
            "flip": head + bytes([byte[0] ^ bits]) + tail,
            "set": head + extra + tail[len(extra) - 1 :],
            "cut": head,
            "insert": head + extra + byte + tail,
            "delete": head + tail,
            "double": content + content,
        }[kind]

    return mutate


def loaded(folder, name, class_names=()):
    """The data set of a folder with IDX files."""
    return dataset_of_idx(read_idx_folder(folder), name, class_names)


def error_of(function, *arguments) -> str:
    """Return the message of the DataError, which is one line."""
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(values=ARRAYS, zipped=st.booleans())
def test_round_trip(tmp_path, to_idx, values, zipped):
    content = to_idx(values)
    path = tmp_path / "some-idx"
    path.write_bytes(gzip.compress(content) if zipped else content)
    read = read_idx(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    assert np.array_equal(read, values)
    assert idx_digest(read) == hashlib.sha256(content).hexdigest()


@settings(max_examples=150, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(values=ARRAYS, mutate=mutations())
def test_mutated_gzip_is_refused_or_reads_the_same(tmp_path, to_idx, values, mutate):
    path = tmp_path / "some-idx.gz"
    path.write_bytes(mutate(gzip.compress(to_idx(values), mtime=0)))
    try:
        read = read_idx(path)
    except DataError as error:
        assert "some-idx.gz" in str(error)
        assert "\n" not in str(error)
    else:
        assert np.array_equal(read, values)


@settings(max_examples=150, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(values=ARRAYS, mutate=mutations())
def test_mutated_idx_is_refused_or_reads_what_it_says(tmp_path, to_idx, values, mutate):
    content = mutate(to_idx(values))
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    try:
        read = read_idx(path)
    except DataError as error:
        assert "some-idx" in str(error)
    else:
        # Nothing was cut off, padded or passed over: the array is the whole file.
        assert to_idx(read) == content


@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(content=st.binary(max_size=60), zipped=st.booleans())
def test_noise_is_refused_or_read_to_the_last_byte(tmp_path, to_idx, content, zipped):
    path = tmp_path / "noise"
    path.write_bytes(gzip.compress(content) if zipped else content)
    try:
        assert to_idx(read_idx(path)) == content
    except DataError as error:
        assert "noise" in str(error)


def test_each_defect_has_its_message(tmp_path, to_idx):
    good = to_idx(np.arange(24).reshape(2, 3, 4))
    packed = gzip.compress(good)
    path = tmp_path / "file"
    for content, words in [
        (b"", "begins with nothing"),
        (b"\x89PNG" + bytes(40), "no IDX file (it begins with 89504e47)"),
        (bytes([0, 0, 8, 0]) + bytes(9), "no IDX file"),
        (bytes([0, 0, 8, 5]) + bytes(90), "no IDX file"),
        (bytes([0, 0, 0x0D, 3]) + good[4:], "IDX type 0x0d"),
        (good[:9], "ends within its header"),
        (bytes([0, 0, 8, 2]) + struct.pack(">II", 0, 9), "(0, 9): it holds nothing"),
        (good[:-1], "declares 24 bytes, shape (2, 3, 4), and holds 23"),
        (good + b"\0", "declares 24 bytes, shape (2, 3, 4), and holds 25"),
        (gzip.compress(good[:-1]), "declares 24 bytes, shape (2, 3, 4), and holds 23"),
        (gzip.compress(good + b"\0"), "goes on after the 24 bytes"),
        (packed + gzip.compress(b"\0"), "goes on after the 24 bytes"),
        (packed + b"rest", "cannot read"),
        (packed[:-9], "cannot read"),
        (packed[:-8] + bytes(8), "CRC check failed"),
    ]:
        path.write_bytes(content)
        assert words in error_of(read_idx, path), content
    assert "no file" in error_of(read_idx, tmp_path / "absent")
    assert "no file" in error_of(read_idx, tmp_path)


def test_hostile_names_stay_on_one_line(tmp_path):
    path = tmp_path / "a\nb\x1b[31m"
    path.write_bytes(b"no")
    message = error_of(read_idx, path)
    assert "\\n" in message
    assert "\x1b" not in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "no file" in error_of(read_idx, tmp_path / "pipe")


@pytest.mark.parametrize("declared", [(10, 28, 28), (2**32 - 1,) * 4, (300, 1000, 1000)])
def test_gzip_bomb_costs_neither_time_nor_memory(tmp_path, declared):
    header = bytes([0, 0, 8, len(declared)]) + b"".join(struct.pack(">I", n) for n in declared)
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(header)] + [packer.compress(bytes(1 << 20)) for _ in range(64)]
    path = tmp_path / "bomb.gz"
    path.write_bytes(b"".join([*parts, packer.flush()]))
    assert path.stat().st_size < 80_000
    tracemalloc.start()
    message = error_of(read_idx, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ("goes on after the 7840 bytes" in message) == (declared == (10, 28, 28))
    assert peak < 2 << 20


def test_folder_gives_the_three_splits(tmp_path, idx_folder):
    dataset = loaded(idx_folder(tmp_path), "toy")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (33, 3, 12)
    assert dataset.image_size == (5, 7)
    assert (dataset.name, dataset.channels, dataset.class_names) == ("toy", 1, ("0", "1", "2"))
    assert np.bincount(dataset.validation.labels).tolist() == [1, 1, 1]

    # The file's images are all there, once, and the test file comes through as it is.
    arrays = read_idx_folder(tmp_path)
    both = np.concatenate([dataset.train.pixels, dataset.validation.pixels])
    assert sorted(image.tobytes() for image in both) == sorted(
        image.tobytes() for image in arrays["train-images"]
    )
    assert np.array_equal(dataset.test.pixels, arrays["t10k-images"])
    assert np.array_equal(dataset.test.labels, arrays["t10k-labels"])


def test_every_spelling_reads_the_same(tmp_path, idx_folder):
    prints = set()
    for number, suffix in enumerate(
        ["-idx{n}-ubyte", ".idx{n}-ubyte", "-idx{n}-ubyte.gz", ".idx{n}-ubyte.gz"]
    ):
        folder = idx_folder(tmp_path / str(number), suffix=suffix)
        prints.add(loaded(folder, "toy").fingerprint)
    assert len(prints) == 1


def test_uncompressed_file_is_preferred(tmp_path, idx_folder):
    idx_folder(tmp_path, suffix="-idx{n}-ubyte")
    idx_folder(tmp_path, t10k_labels=np.zeros(12, np.uint8))
    assert loaded(tmp_path, "toy").test.labels.tolist() == [0, 1, 2] * 4


def test_colour_images(tmp_path, idx_folder):
    colours = np.arange(36 * 4 * 4 * 3).astype(np.uint8).reshape(36, 4, 4, 3)
    idx_folder(tmp_path, train_images=colours, t10k_images=colours[:12])
    dataset = loaded(tmp_path, "toy")
    assert dataset.channels == 3
    assert np.array_equal(dataset.test.pixels, colours[:12])


def test_classes_too_small_to_spare_an_image_stay_in_training(tmp_path, idx_folder):
    labels = np.arange(36, dtype=np.uint8)
    dataset = loaded(idx_folder(tmp_path, train_labels=labels), "toy")
    assert (len(dataset.train), len(dataset.validation)) == (36, 0)
    assert dataset.num_classes == 36


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_labels": np.zeros(35, np.uint8)}, "holds 36 images but 'train-labels"),
        ({"t10k_labels": np.zeros(13, np.uint8)}, "holds 12 images but 't10k-labels"),
        ({"t10k_images": np.zeros((12, 7, 5), np.uint8)}, "(7, 5, 1), the training images (5, 7"),
        ({"train_images": np.zeros((36, 4, 4, 2), np.uint8)}, "has the shape (36, 4, 4, 2)"),
        ({"train_labels": np.zeros((36, 1, 1), np.uint8)}, "has the shape (36, 1, 1): labels are"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, idx_folder, changes, words):
    assert words in error_of(loaded, idx_folder(tmp_path, **changes), "toy")


def test_label_out_of_range(tmp_path, idx_folder):
    idx_folder(tmp_path, t10k_labels=np.full(12, 3, np.uint8))
    message = error_of(loaded, tmp_path, "toy", ("a", "b", "c"))
    assert "label 3 of the test images of 'toy' is out of range: 3 classes" in message
    assert loaded(tmp_path, "toy").class_names == ("0", "1", "2", "3")


def test_missing_files_are_named(tmp_path, idx_folder):
    idx_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").rename(tmp_path / "labels.gz")
    message = error_of(read_idx_folder, tmp_path)
    assert "lacks t10k-labels-idx1-ubyte[.gz] (found: 'labels.gz', 't10k-images-idx3" in message
    (tmp_path / "empty").mkdir()
    line = error_of(read_idx_folder, tmp_path / "empty")
    assert "lacks train-images-idx3" in line and "train-labels" in line and "found: nothing" in line
    assert "cannot list" in error_of(read_idx_folder, tmp_path / "absent")


def test_without_labels_the_images_are_unlabelled(tmp_path, idx_folder):
    idx_folder(tmp_path)
    labels = sorted(tmp_path.glob("*labels*"))
    labels[0].unlink()
    assert "lacks t10k-labels-idx1-ubyte[.gz]" in error_of(read_idx_folder, tmp_path)
    labels[1].unlink()
    dataset = loaded(tmp_path, "toy")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (33, 3, 12)
    assert (dataset.train.labels, dataset.test.labels, dataset.class_names) == (None, None, ())
    next(tmp_path.glob("t10k-images*")).unlink()
    line = error_of(read_idx_folder, tmp_path)
    assert "lacks t10k-images-idx3-ubyte[.gz] (found: 'train-images" in line
