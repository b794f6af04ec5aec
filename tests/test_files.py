import errno
import os
import stat
import struct

import pytest
import torch

from vaegan.errors import RunError
from vaegan.files import read_tensors, replacing, write_json, write_tensors

EXPECTED = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.int64)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(4)})
    return path


def test_a_file_is_what_it_was_or_whole(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"a": [1, "ü"]})
    assert path.read_text("utf-8") == '{\n  "a": [\n    1,\n    "ü"\n  ]\n}\n'
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text("utf-8").startswith('{\n  "a"')
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "permission denied; choose another directory"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EIO, "Input/output error; choose another place"),
    ],
)
@pytest.mark.parametrize("kind", ["os", "safetensors"])
def test_what_the_disk_says_is_one_line(tmp_path, number, remedy, kind):
    path = tmp_path / "model.safetensors"
    text = os.strerror(number)
    error = (
        OSError(number, text)
        if kind == "os"
        else RuntimeError(f"Error while serializing: I/O error: {text} (os error {number})")
    )
    with pytest.raises(RunError) as caught, replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert str(caught.value).startswith(f"cannot write {path}: {remedy}")
    assert not list(tmp_path.iterdir())


def test_order_of_flush_and_rename(tmp_path, monkeypatch):
    """The file's bytes are on disk before its name is, and the name before we go on."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def spied_fsync(handle):
        calls.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "replace", lambda *a, **k: (calls.append("rename"), replace(*a, **k)))
    write_json(tmp_path / "file.json", {})
    assert calls == ["file", "rename", "directory"]
    calls.clear()
    with replacing(tmp_path / "file.json", sync=False) as temporary:
        temporary.write_text("[]")
    assert calls == ["rename"]
    assert (tmp_path / "file.json").read_text() == "[]"


def test_tensors_go_out_and_in(path):
    tensors = read_tensors(path, EXPECTED)
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3))
    assert torch.equal(tensors["b"], torch.arange(4))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"c": torch.zeros(1)}, "tensor 'c' is missing"),
        ({"a": torch.zeros(3, 2)}, r"tensor 'a' has shape \[2, 3\], expected \[3, 2\]"),
        ({"a": torch.zeros(2, 3, dtype=torch.float64)}, "tensor 'a' has type torch.float32"),
    ],
)
def test_tensors_of_another_model_are_refused(path, change, why):
    with pytest.raises(RunError, match=why):
        read_tensors(path, EXPECTED | change)


def test_extra_tensors_are_refused(path):
    with pytest.raises(RunError, match="tensor 'b' is unknown"):
        read_tensors(path, {"a": EXPECTED["a"]})


def test_values_that_are_not_finite_are_refused(path):
    write_tensors(path, {"a": torch.full((2, 3), float("inf")), "b": torch.arange(4)})
    with pytest.raises(RunError, match="tensor 'a' holds values that are not finite"):
        read_tensors(path, EXPECTED)


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(200),  # a zip: torch.save, npz
        b"\x80\x04\x95" + bytes(200),  # a pickle
        b"\x89HDF\r\n\x1a\n" + bytes(200),
        struct.pack("<Q", 1 << 40) + b"{}",
        header(b"[1, 2]"),
        header(b'{"a": 3}'),
        header(b"{" * 100),
        header(b"[" * 900_000),
        header(b"\xff\xfe{}"),
    ],
    ids=["empty", "zip", "pickle", "hdf5", "huge", "list", "number", "json", "deep", "bytes"],
)
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(RunError, match="is not a safetensors file") as caught:
        read_tensors(path, EXPECTED)
    assert str(path) in str(caught.value)


def test_a_cut_file_is_damaged(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(RunError, match="is damaged"):
        read_tensors(path, EXPECTED)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*nowhere: No such file"):
        read_tensors(tmp_path / "nowhere", EXPECTED)


def test_files_can_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        write_tensors(tmp_path / "model.safetensors", EXPECTED)
        write_json(tmp_path / "config.json", {})
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes == {"model.safetensors": 0o644, "config.json": 0o644}
