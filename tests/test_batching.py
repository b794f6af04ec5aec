import numpy as np
import pytest
import torch

from vaegan.batching import BATCH, in_batches


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 40])
def test_what_is_joined_is_what_one_pass_gives(count):
    rows, numbers = torch.randn(count, 3), np.arange(count)
    seen = []

    def work(rows, nothing, numbers):
        assert nothing is None
        seen.append(len(rows))
        return rows.sum(1), None, torch.from_numpy(2 * numbers)

    sums, nothing, doubled = in_batches(work, rows, None, numbers, batch=8)
    assert torch.equal(sums, rows.sum(1))
    assert nothing is None
    assert doubled.tolist() == [2 * i for i in range(count)]
    assert doubled.dtype == torch.int64
    assert sum(seen) == count
    assert max(seen) <= 8
    assert len(seen) == max(1, -(-count // 8))


def test_what_goes_wrong_in_a_batch_is_raised():
    def work(rows):
        if rows[0] >= BATCH:
            raise ZeroDivisionError
        return (rows,)

    with pytest.raises(ZeroDivisionError):
        in_batches(work, torch.arange(BATCH + 1))
