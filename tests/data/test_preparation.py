"""Preparing: killed, gone on with, changed under way, with files that cannot be used."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vaegan.data import load_dataset
from vaegan.data.dataset import Dataset, Split, fingerprint_of
from vaegan.data.image_folder import list_images
from vaegan.data.preparation import Preparation, claim
from vaegan.data.sources import DatasetSource, FolderSource
from vaegan.data.workers import finished
from vaegan.errors import DataError
from vaegan.images import read_image_files, resized

COUNTS = {"a": 420, "b": 280}  # 550 + 50 + 100 images: five chunks


def source_of(folder, size=12):
    files = list_images(folder)
    return FolderSource(files, (size, size), 1, files.digest)


def begin(source, folder, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(source, folder, **options)


class Stop(Exception):
    pass


def run(work, *, chunks=None):
    """Run to the end, or until so many chunks are done; what was left out."""
    seen = []

    def progress(stage, share):
        seen.append(share)
        if chunks is not None and len(seen) > chunks:
            raise Stop

    left_out = work.run(1, progress)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1)
    return left_out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    """700 small images of two classes; not to be changed."""
    return images(tmp_path_factory.mktemp("source") / "photos", COUNTS)


def assert_holds(dataset, files, **gaps):
    """That a data set holds what the files do, all but those at the gaps of each split."""
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    for purpose, split in splits.items():
        rows = np.delete(files.rows[purpose], gaps.get(purpose, []))
        read = read_image_files(files.paths(rows), (12, 12), 1, resize=True)
        assert np.array_equal(split.pixels, read)
        assert np.array_equal(split.labels, files.labels[rows])
    assert dataset.fingerprint == fingerprint_of(*splits.values())


def test_what_is_prepared_is_what_the_files_hold(photos, tmp_path):
    run(begin(source_of(photos), tmp_path / "made"))
    dataset = load_dataset(tmp_path / "made")
    assert (dataset.name, dataset.class_names) == ("photos", ("a", "b"))
    assert_holds(dataset, list_images(photos))


def test_another_size_of_a_prepared_set(bars, tmp_path):
    run(begin(DatasetSource(bars()), tmp_path / "one"))
    run(begin(DatasetSource(load_dataset(tmp_path / "one"), 16), tmp_path / "other"))
    larger = load_dataset(tmp_path / "other")
    assert larger.image_size == (16, 16)
    assert np.array_equal(larger.train.pixels, resized(bars().train.pixels, 16))
    assert larger.fingerprint == bars().resized(16).fingerprint


@pytest.mark.parametrize("chunks", [0, 1, 3, 6])
def test_it_goes_on_where_it_was(photos, tmp_path, chunks):
    run(begin(source_of(photos), tmp_path / "whole"))
    with pytest.raises(Stop):
        run(begin(source_of(photos), tmp_path / "parts"), chunks=chunks)
    work = begin(source_of(photos), tmp_path / "parts")
    assert not work.anew
    assert len(work.done) == min(chunks, 5)
    assert work.found == sum(len(work.chunks[number][1]) for number in work.done)
    run(work)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_line_cut_short_and_a_file_too_short_are_read_again(photos, tmp_path):
    run(begin(source_of(photos), tmp_path / "whole"))
    parts = tmp_path / "parts"
    with pytest.raises(Stop):
        run(begin(source_of(photos), parts), chunks=4)
    journal = parts / "preparation.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    (parts / ".test-labels.npy.1.tmp").write_text("left behind")
    assert len(begin(source_of(photos), parts).done) == 3
    os.truncate(parts / "train-pixels.npy", 1000)
    work = begin(source_of(photos), parts)
    assert {work.chunks[number][0] for number in work.done} <= {"validation", "test"}
    run(work)
    assert contents(parts) == contents(tmp_path / "whole")


def test_what_changed_is_read_again(photos, images, tmp_path):
    mine = images(tmp_path / "mine", {"a": 420, "b": 280})
    parts = tmp_path / "parts"
    with pytest.raises(Stop):
        run(begin(source_of(mine), parts), chunks=5)
    # Another picture under the name of one that was read: its chunk alone.
    files = list_images(mine)
    changed = Path(files.paths(files.rows["train"][300:301])[0])
    changed.write_bytes((photos / "b/0007.png").read_bytes())
    work = begin(source_of(mine), parts)
    assert sorted({0, 1, 2, 3, 4} - work.done.keys()) == [1] and not work.anew
    run(work)
    read = read_image_files([changed], (12, 12), 1, resize=True)[0]
    assert np.array_equal(load_dataset(parts).train.pixels[300], read)

    # Another size or another list: all of it.
    parts = tmp_path / "others"
    with pytest.raises(Stop):
        run(begin(source_of(mine), parts), chunks=2)
    assert begin(source_of(mine, size=14), parts).anew
    with pytest.raises(Stop):
        run(begin(source_of(mine, size=14), parts), chunks=2)
    changed.unlink()
    work = begin(source_of(mine, size=14), parts)
    assert work.anew and not work.done and work.images == 699
    run(work)
    run(begin(source_of(mine, size=14), tmp_path / "whole"))
    assert contents(parts) == contents(tmp_path / "whole")


# ── files that cannot be used ────────────────────────────────────────────────────────────────────


@pytest.fixture
def spoilt(images, tmp_path):
    """A folder of 300 + 200 images of which three cannot be read, and these."""
    folder = images(tmp_path / "spoilt", {"a": 300, "b": 200})
    files = list_images(folder)
    bad = [Path(p) for p in files.paths(files.rows["train"][[0, 260]])]
    bad += [Path(p) for p in files.paths(files.rows["test"][[3]])]
    for path in bad:
        path.write_bytes(path.read_bytes()[:40])
    return folder, bad


def test_a_bad_file_is_named(spoilt, tmp_path):
    folder, bad = spoilt
    with pytest.raises(DataError) as caught:
        run(begin(source_of(folder), tmp_path / "made"))
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"'{bad[0]}' ") and "--skip-bad" in line
    # Mended, the rest goes on, and nothing is read twice.
    for path in bad:
        path.write_bytes((folder / "a/0011.png").read_bytes())
    assert run(begin(source_of(folder), tmp_path / "made")) == []
    assert len(load_dataset(tmp_path / "made").train) == 393


@pytest.mark.parametrize("stop", [None, 2, 5])
def test_bad_files_are_left_out_and_nothing_else_moves(spoilt, tmp_path, stop):
    folder, bad = spoilt
    files, made = list_images(folder), tmp_path / "made"
    if stop is not None:
        with pytest.raises(Stop):
            run(begin(source_of(folder), made, skip_bad=True), chunks=stop)
    left_out = run(begin(source_of(folder), made, skip_bad=True))
    assert [line.split("'")[1] for line in left_out] == [str(path) for path in bad]
    assert_holds(load_dataset(made), files, train=[0, 260], test=[3])


def test_stopped_after_a_gap_was_closed(spoilt, tmp_path):
    folder, _ = spoilt
    run(begin(source_of(folder), tmp_path / "whole", skip_bad=True))
    made = tmp_path / "made"
    with pytest.raises(Stop):  # while the fingerprint is taken
        run(begin(source_of(folder), made, skip_bad=True), chunks=5)
    assert np.load(made / "train-pixels.npy").shape[0] == 391
    work = begin(source_of(folder), made, skip_bad=True)
    assert work.found == work.images
    run(work)
    assert contents(made) == contents(tmp_path / "whole")


def test_bad_files_that_were_left_out_are_asked_for_again(spoilt, tmp_path):
    folder, bad = spoilt
    made = tmp_path / "made"
    with pytest.raises(Stop):
        run(begin(source_of(folder), made, skip_bad=True), chunks=5)
    with pytest.raises(DataError, match="--skip-bad"):
        run(begin(source_of(folder), made))
    for path in bad:
        path.write_bytes((folder / "a/0011.png").read_bytes())
    assert run(begin(source_of(folder), made, skip_bad=True)) == []
    assert len(load_dataset(made).train) == 393


def test_a_split_without_a_good_file(images, tmp_path):
    folder = images(tmp_path / "few", {"": 2})
    for path in folder.iterdir():
        path.write_text("no picture")
    with pytest.raises(DataError, match="'few' has no training image"):
        run(begin(source_of(folder), tmp_path / "made", skip_bad=True))
    assert claim(tmp_path / "made") is None


# ── a folder of its own ──────────────────────────────────────────────────────────────────────────


def test_a_folder_is_claimed_once(bars, tmp_path):
    made = tmp_path / "made"
    assert claim(made) is None
    made.mkdir()
    (made / ".lock").touch()
    assert claim(made) is None
    (made / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"holds other files \('thesis.tex'\)"):
        claim(made)
    with pytest.raises(DataError, match="is a file"):
        claim(made / "thesis.tex")
    (made / "thesis.tex").unlink()
    run(begin(DatasetSource(bars()), made))
    assert claim(made).fingerprint == bars().fingerprint


# ── real processes ───────────────────────────────────────────────────────────────────────────────


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid):
    """The processes that descend from one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")")[-1].split()[1])
        except OSError:
            continue
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [deeper for child in found for deeper in children(child)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes there are")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_the_same_command_again_equal_an_unbroken_preparation(images, tmp_path, ending):
    folder = images(tmp_path / "photos", {"a": 20, "b": 20}, shape=(60, 50))
    for path in list(folder.rglob("*.png")):
        for copy in range(300):  # enough that it is still at work when the signal comes
            os.link(path, path.with_name(f"{path.stem}-{copy}.png"))
    command = [sys.executable, "-m", "vaegan", "data", "prepare", str(folder), "--out"]
    size = ["--image-size", "48", "--workers", "2"]
    broken = subprocess.Popen(
        [*command, str(tmp_path / "broken"), *size],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    journal, deadline = tmp_path / "broken/preparation.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and broken.poll() is None:
        if journal.is_file() and len(journal.read_bytes().splitlines()) > 3:
            break
        time.sleep(0.005)
    workers = children(broken.pid)
    if ending == signal.SIGKILL:
        broken.kill()
    else:  # a terminal sends it to every process of the group
        os.killpg(broken.pid, ending)
    _, err = broken.communicate(timeout=60)
    if ending == signal.SIGINT:
        assert broken.returncode == 130
        assert err.endswith("stopped; nothing is lost: the same command goes on from here\n")
        assert "Traceback" not in err
    assert len(workers) >= 2
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert not (tmp_path / "broken/dataset.json").exists()
    with pytest.raises(DataError, match="is half prepared"):
        load_dataset(tmp_path / "broken")

    again = subprocess.run(
        [*command, str(tmp_path / "broken"), *size], capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert "going on: " in again.stderr and " of 12,040 images are there" in again.stderr
    whole = begin(source_of(folder, size=48), tmp_path / "whole")
    run(whole)
    ours = contents(tmp_path / "broken")
    del ours[".lock"]
    assert ours == contents(tmp_path / "whole")


def test_no_worker_ever_sees_ctrl_c():
    """Not even one that is still importing: its parent answers, and there is one line."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    masks = list(finished(signal.pthread_sigmask, [(signal.SIG_BLOCK, [])] * 3, 2, processes=True))
    assert all(signal.SIGINT in mask for mask in masks)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(DataError, match="a worker process died"):
        list(finished(os._exit, [(1,)] * 3, 2, processes=True))


def test_memory_does_not_grow_with_the_images(tmp_path):
    # What is under way at once is bounded: arguments are taken as they are needed.
    taken, done = [], []

    def calls():
        for number in range(50):
            taken.append(number)
            assert len(taken) - len(done) <= 7
            yield (number,)

    for result in finished(lambda number: number * number, calls(), 3, processes=False):
        done.append(result)
    assert sorted(done) == [number * number for number in range(50)]


def test_the_chunks_of_large_images_are_small(tmp_path):
    # A million bytes of pixels an image, sixteen of them a chunk.
    split = Split(np.zeros((40, 1024, 1024, 1), np.uint8), None)
    none = split.take(np.arange(0))
    work = begin(DatasetSource(Dataset("large", split, none, none)), tmp_path)
    assert [len(rows) for _, rows in work.chunks] == [16, 16, 8]
    lines = (tmp_path / "preparation.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] == 16
