import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaegan.data.dataset import Dataset, Split, carve_validation, fingerprint_of
from vaegan.errors import DataError


def numbered(labels: list[int] | np.ndarray | None, count: int | None = None) -> Split:
    """Make 2 x 2 RGB images, each holding its own number in its bytes."""
    count = len(labels) if count is None else count
    numbers = np.arange(count, dtype="<u4").view(np.uint8).reshape(count, 4)
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels[:, 0, :, :2] = numbers.reshape(count, 2, 2)
    return Split(pixels, None if labels is None else np.asarray(labels, np.int64))


def numbers_of(split: Split) -> np.ndarray:
    """Return the numbers that `numbered` wrote."""
    packed = np.ascontiguousarray(split.pixels[:, 0, :, :2]).reshape(-1, 4)
    return packed.view("<u4")[:, 0].astype(np.int64)


@pytest.mark.parametrize(
    ("pixels", "labels", "words"),
    [
        (np.zeros((2, 4, 4), np.uint8), None, "(2, 4, 4)"),
        (np.zeros((2, 4, 4, 2), np.uint8), None, "(2, 4, 4, 2)"),
        (np.zeros((2, 0, 4, 1), np.uint8), None, "(2, 0, 4, 1)"),
        (np.zeros((2, 4, 4, 1), np.float32), None, "float32"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32), "int32"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), "(3,)"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([0, -5]), "-5"),
    ],
)
def test_split_refuses_what_it_does_not_describe(pixels, labels, words):
    with pytest.raises(DataError) as caught:
        Split(pixels, labels)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dataset_derives_its_sizes():
    split = Split(np.zeros((4, 5, 7, 3), np.uint8), np.array([0, 1, 1, 0]))
    dataset = Dataset("toy", split, split, split, ("a", "b"))
    assert dataset.image_size == (5, 7)
    assert (dataset.channels, dataset.num_classes, len(dataset.train)) == (3, 2, 4)


def test_dataset_refuses_contradictions():
    labelled, bare = numbered([0, 1]), numbered(None, 2)
    wide = Split(np.zeros((2, 2, 3, 3), np.uint8), np.array([0, 1]))
    none = numbered([])
    for arguments, words in [
        ((none, labelled, labelled, ("a", "b")), "no training image"),
        ((labelled, labelled, labelled, ("a", "a")), "repeats"),
        ((labelled, wide, labelled, ("a", "b")), "validation images of 'toy' are (H, W, C)"),
        ((labelled, labelled, labelled, ()), "labelled but 0 classes"),
        ((labelled, labelled, bare, ("a", "b")), "test images of 'toy' are unlabelled"),
        ((labelled, labelled, labelled, ("a",)), "label 1 of the train images"),
    ]:
        with pytest.raises(DataError) as caught:
            Dataset("toy", *arguments)
        assert words in str(caught.value)
    assert Dataset("toy", bare, bare, bare).num_classes == 0
    assert len(Dataset("toy", labelled, none, none, ("a", "b")).test) == 0


def test_fingerprint_sees_every_change():
    split = numbered([0, 1, 2])
    prints = {fingerprint_of(split, split, split)}
    pixels = split.pixels.copy()
    pixels[1, 1, 1, 2] ^= 1
    prints.add(fingerprint_of(split, Split(pixels, split.labels), split))
    prints.add(fingerprint_of(split, split, Split(split.pixels, np.array([0, 1, 1]))))
    prints.add(fingerprint_of(split, split, Split(split.pixels, None)))
    prints.add(fingerprint_of(Split(split.pixels.reshape(3, 1, 4, 3), split.labels), split, split))
    first, last = split.take(np.array([0])), split.take(np.array([1, 2]))
    prints.add(fingerprint_of(first, last, split))
    prints.add(fingerprint_of(last, first, split))
    assert len(prints) == 7
    assert len(prints.pop()) == 64


def test_fingerprint_follows_content_not_memory_or_name():
    split = numbered([0, 1, 2])
    turned = Split(np.asfortranarray(split.pixels), split.labels)
    one = Dataset("one", split, split, split, ("a", "b", "c"))
    two = Dataset("two", turned, turned, turned, ("d", "e", "f"))
    assert one.fingerprint == two.fingerprint
    # Frozen: a change here would make every earlier run refuse its own data.
    assert one.fingerprint == "d9787005fd0e73580cb2edbd018048f4cc83dd9e4b7f4fcdb09d97b3e4d5c7bd"


def test_fingerprint_of_mnist_size_takes_less_than_half_a_second():
    split = Split(np.zeros((70_000, 28, 28, 1), np.uint8), np.zeros(70_000, np.int64))
    start = time.process_time()
    fingerprint_of(split)
    assert time.process_time() - start < 0.5


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_carving_is_a_stratified_partition(labels, share, seed):
    split = numbered(labels)
    classes = np.unique(labels)
    wanted = int(share * (len(labels) - len(classes)))
    rest, carved = carve_validation(split, wanted, seed)
    one, other = numbers_of(rest), numbers_of(carved)

    assert len(carved) == wanted
    assert np.array_equal(np.sort(np.concatenate([one, other])), np.arange(len(labels)))
    assert (np.diff(one) > 0).all()
    assert (np.diff(other) > 0).all()
    assert np.array_equal(rest.labels, np.asarray(labels)[one])
    assert np.array_equal(carved.labels, np.asarray(labels)[other])
    assert np.array_equal(np.unique(rest.labels), classes)
    if min(np.bincount(labels)[classes] * (1 - wanted / len(labels))) > 1:
        quota = np.bincount(labels, minlength=6) * wanted / len(labels)
        assert np.abs(np.bincount(carved.labels, minlength=6) - quota).max() < 1


def test_carving_depends_on_the_seed_alone():
    split = numbered(np.arange(200) % 4)
    np.random.seed(1)  # noqa: NPY002
    first = numbers_of(carve_validation(split, 20, 7)[1])
    np.random.seed(2)  # noqa: NPY002
    again = numbers_of(carve_validation(split, 0.1, 7)[1])
    other = numbers_of(carve_validation(split, 20, 8)[1])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(first % 4).tolist() == [5, 5, 5, 5]


def test_carving_unlabelled_images_and_refusals():
    rest, carved = carve_validation(numbered(None, 10), 3, 0)
    assert (len(rest), len(carved), carved.labels) == (7, 3, None)
    with pytest.raises(DataError, match="at most 1"):
        carve_validation(numbered([0, 0, 1]), 2, 0)
    with pytest.raises(DataError, match="cannot carve -1"):
        carve_validation(numbered([0, 0, 1]), -1, 0)


def test_splits_are_the_same_in_another_process():
    program = (
        "import numpy as np; from vaegan.data.dataset import *;"
        "s = Split(np.arange(400).astype(np.uint8).reshape(100, 2, 2, 1), np.arange(100) % 7);"
        "print(fingerprint_of(*carve_validation(s, 30, 3)))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    pixels = np.arange(400).astype(np.uint8).reshape(100, 2, 2, 1)
    here = fingerprint_of(*carve_validation(Split(pixels, np.arange(100) % 7), 30, 3))
    assert runs == [here, here]
