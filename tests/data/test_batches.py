import numpy as np
import pytest
import torch

from vaegan.data import Split
from vaegan.data.batches import Batches


@pytest.fixture
def split():
    pixels = np.arange(10, dtype=np.uint8).repeat(2 * 3).reshape(10, 2, 3, 1)
    return Split(pixels, np.arange(10) % 3)


@pytest.mark.parametrize("batch", [2, 3, 4, 10, 17])
def test_every_epoch_holds_every_image_once(split, batch):
    batches = Batches(split, batch, seed=1)
    stream = np.concatenate([batches.indices(index) for index in range(-(-50 // batch))])
    for epoch in range(5):
        assert sorted(stream[10 * epoch : 10 * (epoch + 1)]) == list(range(10))


def test_the_stream_does_not_depend_on_the_batch_size(split):
    def streamed(batch):
        batches = Batches(split, batch, seed=4)
        return np.concatenate([batches.indices(index) for index in range(24 // batch)])

    assert np.array_equal(streamed(2), streamed(8))
    assert np.array_equal(streamed(3), streamed(12))


def test_a_batch_is_a_function_of_seed_and_index(split):
    first, again, other = (Batches(split, 4, seed) for seed in (0, 0, 1))
    forwards = [first.indices(i) for i in range(9)]
    backwards = [again.indices(i) for i in reversed(range(9))][::-1]
    assert np.array_equal(forwards, backwards)
    assert not np.array_equal(forwards, [other.indices(i) for i in range(9)])
    epochs = np.concatenate(forwards)[:30].reshape(3, 10)
    assert not np.array_equal(epochs[0], epochs[1])


def test_the_shuffle_is_the_same_on_every_machine(split):
    assert Batches(split, 10, seed=0).indices(0).tolist() == [4, 6, 3, 5, 8, 0, 2, 7, 1, 9]


def test_images_and_labels_belong_together(split):
    batch = Batches(split, 4, seed=2)(5)
    assert batch.images.shape == (4, 1, 2, 3)
    assert batch.images.dtype == torch.float32
    numbers = (batch.images[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(batch.labels, numbers % 3)
    assert batch.labels.dtype == torch.int64
    assert torch.equal(batch.images.amax((1, 2, 3)), batch.images.amin((1, 2, 3)))
    assert Batches(Split(split.pixels, None), 4, 2)(5).labels is None


def test_ranks_share_one_global_batch(split):
    whole = Batches(split, 6, seed=3)(2)
    parts = [Batches(split, 6, 3, rows=slice(rank, 6, 2))(2) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.images, whole.images[rank::2])
        assert torch.equal(part.labels, whole.labels[rank::2])
