import json

import pytest
import torch

from vaegan import checkpoint
from vaegan.errors import RunError

TENSORS = {"model/weight": torch.arange(6.0).view(2, 3), "average/weight": torch.ones(2)}


def saved(directory, step, value=0.0):
    tensors = {name: t + value for name, t in TENSORS.items()}
    return checkpoint.save(directory, tensors, {"step": step, "seconds": 0.125})


def test_what_goes_in_comes_out(tmp_path):
    path = saved(tmp_path, 12)
    assert path.name == "step-00000012"
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "state.json",
        "state.safetensors",
    ]
    tensors, numbers = checkpoint.load(path)
    assert numbers == {"step": 12, "seconds": 0.125}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_the_newest_two_are_kept(tmp_path):
    for step in (9, 10, 100, 99):
        saved(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000099", "step-00000100"]
    assert checkpoint.latest(tmp_path).name == "step-00000100"


def test_a_step_saved_again_is_replaced(tmp_path):
    saved(tmp_path, 5)
    saved(tmp_path, 5, value=1.0)
    tensors, _ = checkpoint.load(checkpoint.latest(tmp_path))
    assert torch.equal(tensors["average/weight"], torch.full((2,), 2.0))


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << (place % 8)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_every_flipped_bit_is_noticed(tmp_path, name):
    saved(tmp_path, 1)
    last = saved(tmp_path, 2)
    whole = (last / name).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        flip(last / name, place)
        # A digit of the manifest may flip its case: the digest, in lower case, differs then too.
        assert checkpoint.latest(tmp_path).name == "step-00000001", (name, place)
        (last / name).write_bytes(whole)
    assert checkpoint.latest(tmp_path) == last


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_missing_or_cut_file_is_noticed(tmp_path, name):
    saved(tmp_path, 1)
    last = saved(tmp_path, 2)
    whole = (last / name).read_bytes()
    (last / name).write_bytes(whole[: len(whole) // 2])
    assert checkpoint.latest(tmp_path).name == "step-00000001"
    (last / name).unlink()
    assert checkpoint.latest(tmp_path).name == "step-00000001"


def test_nothing_whole_names_the_damaged_file(tmp_path):
    path = saved(tmp_path, 3)
    flip(path / "state.safetensors", 70)
    with pytest.raises(RunError, match=r"no checkpoint is whole: .*state.safetensors is damaged"):
        checkpoint.latest(tmp_path)


def test_leftovers_of_a_crash_are_ignored_and_cleared(tmp_path):
    saved(tmp_path, 1)
    leftover = tmp_path / ".step-00000002.tmp"
    leftover.mkdir()
    (leftover / "state.safetensors").write_bytes(b"half")
    assert checkpoint.latest(tmp_path).name == "step-00000001"
    saved(tmp_path, 2)
    assert not leftover.exists()


def test_a_save_that_fails_leaves_the_last_one(tmp_path, monkeypatch):
    saved(tmp_path, 1)

    def broken(path, tree):
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        path.write_text(json.dumps(tree))

    monkeypatch.setattr(checkpoint, "write_json", broken)
    with pytest.raises(OSError):
        saved(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.load(checkpoint.latest(tmp_path))[1]["step"] == 1
