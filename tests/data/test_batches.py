import threading

import numpy as np
import pytest
import torch

from vaegan.data import Split
from vaegan.data.batches import Ahead, Batches
from vaegan.trainer import Trainer
from vaegan.training import trainer_for


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


# ── ahead ────────────────────────────────────────────────────────────────────────────────────────


def batch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batch ")]


def all_end(seconds=10.0):
    """Whether the threads that gather batches end by themselves."""
    for thread in batch_threads():
        thread.join(seconds)
    return not batch_threads()


def test_ahead_changes_nothing_in_whatever_order(split):
    plain, ahead = Batches(split, 4, seed=2), Ahead(split, 4, seed=2)
    for index in [0, 1, 2, 3, 7, 7, 8, 0, 1, 30, 2]:
        one, other = plain(index), ahead(index)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    part = Ahead(split, 6, 3, rows=slice(1, 6, 2))
    assert torch.equal(part(2).images, Batches(split, 6, seed=3)(2).images[1::2])
    assert all_end()


class Slow(Split):
    """A split on a slow disk: notes what is read, and waits until it may."""

    def __init__(self, split):
        super().__init__(split.pixels, split.labels)
        object.__setattr__(self, "read", [])
        object.__setattr__(self, "gate", threading.Event())

    def take(self, indices):
        self.read.append(indices.tolist())
        assert self.gate.wait(30)
        return super().take(indices)


def test_the_next_batch_is_read_while_one_is_used(split):
    slow = Slow(split)
    ahead, plain = Ahead(slow, 4, seed=2), Batches(split, 4, seed=2)
    slow.gate.set()
    ahead(0)
    assert all_end()
    slow.gate.clear()
    assert slow.read == [plain.indices(0).tolist(), plain.indices(1).tolist()]
    ahead(1)  # at hand, though nothing can be read now
    slow.gate.set()
    assert all_end()
    assert slow.read[2:] == [plain.indices(2).tolist()]


class Failing(Split):
    """A split whose file goes away."""

    def take(self, indices):
        if 5 in indices:
            raise OSError("the disk is gone")
        return super().take(indices)


def test_what_goes_wrong_ahead_is_raised_where_it_is_asked_for(split):
    plain = Batches(split, 2, seed=2)
    bad = next(index for index in range(5) if 5 in plain.indices(index))
    ahead = Ahead(Failing(split.pixels, split.labels), 2, seed=2)
    for index in range(bad):
        assert torch.equal(ahead(index).images, plain(index).images)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            ahead(bad)
    assert all_end()


def test_training_is_the_same_with_and_without(configure, data_of):
    config = configure("cvae-gan")
    states = []
    for kind in (Batches, Ahead):
        with torch.random.fork_rng():
            batches = kind(data_of(config).train, config.batch, config.seed)
            trainer = Trainer(config, batches)
            for step in range(8):
                trainer.step(step / 8)
        states.append(trainer.tensors())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert type(trainer_for(config, data_of(config)).batches) is Ahead
    assert all_end()
