"""Prepare a data set: read every image once, in parallel, into arrays on disk.

A journal beside the arrays says which chunks are there: a line each, written after their pixels
have reached the disk. So whatever ends a preparation, the same command goes on where it was.

    line 1    the plan: what is read, into which shapes; another plan starts anew
    line 2..  a chunk: its number, the state of its files when they were read, those left out
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaegan.data.dataset import PURPOSES, Dataset, Split, fingerprint_of
from vaegan.data.mapped import gathered, open_array
from vaegan.data.prepared import (
    DESCRIPTION,
    FORMAT_VERSION,
    JOURNAL,
    Description,
    labels_path,
    load_prepared,
    pixels_path,
)
from vaegan.data.sources import Chunk, Source
from vaegan.data.workers import finished
from vaegan.errors import DataError
from vaegan.files import replacing

__all__ = ["Preparation", "claim", "planned_before"]

CHUNK_IMAGES, CHUNK_BYTES = 256, 16 << 20  # whichever is less: what a worker has in memory
READING = 0.95  # share of the time; the fingerprint takes the rest


@dataclass
class Finished:
    """A chunk that is on disk: the state of its source then, and rows left out, each with why."""

    stamp: str
    bad: list[tuple[int, str]] = field(default_factory=list)


class Preparation:
    """A preparation of a source in a folder that its caller owns (`claim`, `files.locked`).

    skip_bad: leave out files that cannot be used, rather than stop at the first.
    `images`: how many there are to read; `found`: how many were read before; `anew`: whether an
    earlier preparation of another list, size or kind was thrown away.
    """

    def __init__(self, source: Source, folder: Path, *, skip_bad: bool = False):
        self.source, self.folder, self.skip_bad = source, folder, skip_bad
        self.shapes = {
            purpose: (source.count(purpose), *source.image_size, source.channels)
            for purpose in PURPOSES
        }
        self.image_bytes = math.prod(self.shapes["train"][1:])
        self.step = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // self.image_bytes))
        self.chunks = [
            (purpose, range(start, min(start + self.step, count)))
            for purpose, (count, *_) in self.shapes.items()
            for start in range(0, count, self.step)
        ]
        self.images = sum(shape[0] for shape in self.shapes.values())
        self.done: dict[int, Finished] = {}
        self.anew = False
        self._resume()
        self.found = sum(len(self.chunks[number][1]) for number in self.done)

    def run(self, workers: int, progress: Callable[[str, float], None]) -> list[str]:
        """Read what is missing, then write labels and description; why files were left out.

        progress(stage, share done). Raises DataError, what was read so far being kept, for a file
        that cannot be used, and when a split ends up without what a `Dataset` needs.
        """
        stage, there = f"reading {self.images:,} images", self.found
        progress(stage, READING * there / max(self.images, 1))
        missing = [number for number in range(len(self.chunks)) if number not in self.done]
        workers = max(1, min(workers, len(missing)))
        calls = (self._call(number) for number in missing)
        with (
            (self.folder / JOURNAL).open("a", encoding="utf-8") as journal,
            closing(finished(_fill, calls, workers, processes=self.source.in_files)) as results,
        ):
            for number, one in results:
                if one.bad and not self.skip_bad:
                    raise DataError(
                        f"{one.bad[0][1]}; --skip-bad leaves out files that cannot be used"
                    )
                self.done[number] = one
                journal.write(_line(number, one))
                journal.flush()
                there += len(self.chunks[number][1])
                progress(stage, READING * there / self.images)
        rest = 1 - READING
        self._finish(lambda share: progress("taking the fingerprint", READING + rest * share))
        return [why for number in sorted(self.done) for _, why in self.done[number].bad]

    def _call(self, number: int) -> tuple[int, Chunk, str, int]:
        """The arguments of `_fill` for a chunk."""
        purpose, rows = self.chunks[number]
        path, size = pixels_path(self.folder, purpose), math.prod(self.shapes[purpose])
        at = path.stat().st_size - size + rows.start * self.image_bytes
        return number, self.source.chunk(purpose, rows), str(path), at

    # ── the journal ──────────────────────────────────────────────────────────────────────────

    def _plan(self) -> dict[str, Any]:
        """What a chunk's number stands for."""
        return {
            "format_version": FORMAT_VERSION,
            "source": self.source.digest,
            "image_size": list(self.source.image_size),
            "channels": self.source.channels,
            "step": self.step,
        }

    def _resume(self) -> None:
        """Find out what is done; leave a journal that says so, and files for all pixels."""
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        plan, lines = _journal(self.folder)
        self.anew = plan is not None and plan != self._plan()
        for number, one in ({} if self.anew else lines).items():
            purpose, rows = self.chunks[number]
            if (self.skip_bad or not one.bad) and (
                one.stamp == self.source.chunk(purpose, rows).stamp()
            ):
                self.done[number] = one
        absent = [purpose for purpose in PURPOSES if not self._is_there(purpose)]
        self.done = {n: one for n, one in self.done.items() if self.chunks[n][0] not in absent}
        with replacing(self.folder / JOURNAL) as temporary:
            kept = "".join(_line(number, one) for number, one in self.done.items())
            temporary.write_text(json.dumps(self._plan()) + "\n" + kept, "utf-8")
        for purpose in absent:
            with pixels_path(self.folder, purpose).open("wb") as file:
                _begin(file, self.shapes[purpose])
                file.truncate(file.tell() + math.prod(self.shapes[purpose]))

    def _is_there(self, purpose: str) -> bool:
        """Whether the file of a split's pixels is, with room for all, or without those left out."""
        numbers = [n for n, chunk in enumerate(self.chunks) if chunk[0] == purpose]
        count, *shape = self.shapes[purpose]
        counts = [count]
        if all(number in self.done for number in numbers):
            counts.append(count - len(self._bad(purpose)))
        for one in counts:
            try:
                open_array(pixels_path(self.folder, purpose), (one, *shape), "|u1")
            except DataError:
                continue
            return True
        return False

    def _bad(self, purpose: str) -> np.ndarray:
        """The rows of a split that are left out."""
        found = [
            self.chunks[number][1].start + place
            for number, one in self.done.items()
            for place, _ in one.bad
            if self.chunks[number][0] == purpose
        ]
        return np.array(sorted(found), np.int64)

    # ── the end ──────────────────────────────────────────────────────────────────────────────

    def _finish(self, progress: Callable[[float], None]) -> None:
        """Close the gaps, write the labels and at last the description, which makes it data."""
        splits = []
        for purpose in PURPOSES:
            count, *shape = self.shapes[purpose]
            kept = np.setdiff1d(np.arange(count), self._bad(purpose))
            path, labels = pixels_path(self.folder, purpose), self.source.labels(purpose)
            if len(kept) < count:
                self._close_gaps(path, purpose, kept)
            pixels = open_array(path, (len(kept), *shape), "|u1")
            if labels is not None:
                labels = labels[kept]
                path = labels_path(self.folder, purpose)
                with replacing(path) as temporary, temporary.open("wb") as file:
                    np.save(file, labels)
            splits.append(Split(pixels, labels))
        train, validation, test = splits
        name, class_names = self.source.name, self.source.class_names
        fingerprint = fingerprint_of(*splits, progress=progress)
        dataset = Dataset(name, train, validation, test, class_names, fingerprint)
        Description(
            name=name,
            class_names=class_names,
            image_size=dataset.image_size,
            channels=self.source.channels,
            splits={purpose: len(split) for purpose, split in zip(PURPOSES, splits)},
            source=self.source.origin,
            fingerprint=fingerprint,
        ).write(self.folder)
        (self.folder / JOURNAL).unlink()

    def _close_gaps(self, path: Path, purpose: str, kept: np.ndarray) -> None:
        """Write a split's pixels again without the rows that are left out, unless that is done."""
        try:
            pixels = open_array(path, self.shapes[purpose], "|u1")
        except DataError:
            return
        with replacing(path) as temporary, temporary.open("wb") as file:
            _begin(file, (len(kept), *self.shapes[purpose][1:]))
            for start in range(0, len(kept), self.step):
                file.write(gathered(pixels, kept[start : start + self.step]).data)


def _fill(number: int, chunk: Chunk, path: str, at: int) -> tuple[int, Finished]:
    """Read a chunk and put its pixels into a file, at a byte; in a worker."""
    stamp = chunk.stamp()
    pixels, bad = chunk.read()
    with Path(path).open("rb+") as file:
        file.seek(at)
        file.write(np.ascontiguousarray(pixels).data)
        file.flush()
        os.fsync(file.fileno())
    return number, Finished(stamp, bad)


def _begin(file: Any, shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file of bytes."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _line(number: int, one: Finished) -> str:
    return json.dumps({"chunk": number, "stamp": one.stamp, "bad": one.bad}) + "\n"


def _journal(folder: Path) -> tuple[dict[str, Any] | None, dict[int, Finished]]:
    """The plan and the chunks of a journal; a line that was cut short does not count."""
    try:
        first, *rest = (folder / JOURNAL).read_text("utf-8").splitlines()
        plan = json.loads(first)
    except (OSError, ValueError):
        return None, {}
    found: dict[int, Finished] = {}
    for line in rest:
        try:
            tree = json.loads(line)
        except ValueError:
            continue
        found[tree["chunk"]] = Finished(tree["stamp"], [(row, why) for row, why in tree["bad"]])
    return plan, found


def planned_before(folder: Path, digest: str) -> tuple[tuple[int, int], int] | None:
    """Image size and channels in the journal of a folder, if it is of the source with a digest."""
    plan, _ = _journal(folder)
    if plan is None or plan.get("source") != digest:
        return None
    return (plan["image_size"][0], plan["image_size"][1]), plan["channels"]


def claim(folder: Path) -> Dataset | None:
    """The data set that a folder holds already, None if one may be prepared here.

    Raises DataError when the folder holds anything else.
    """
    if (folder / DESCRIPTION).is_file():
        return load_prepared(folder)
    if (folder / JOURNAL).is_file() or not folder.exists():
        return None
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file: choose another --out")
    others = sorted(_strangers(folder))
    if others:
        raise DataError(
            f"{str(folder)!r} holds other files ({others[0]!r}): choose a folder of its own (--out)"
        )
    return None


def _strangers(folder: Path) -> Iterator[str]:
    """Names of what no preparation left in a folder."""
    for entry in folder.iterdir():
        if entry.name != ".lock" and not entry.name.startswith(f".{JOURNAL}."):
            yield entry.name
