"""Fetch published files once: every one checked by sha256, mirrors of a data set tried in turn."""

from __future__ import annotations

import queue
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from vaegan.data.published import Archive, Published
from vaegan.errors import DataError

__all__ = ["cache_folder", "download", "download_file"]

ANSWER_SECONDS = 6.0  # how long all mirrors together may take to answer at first
CONNECT_SECONDS, STALL_SECONDS = 4.0, 20.0  # and one of them later on
_CHUNK = 1 << 16


def cache_folder() -> Path:
    """Return the user's folder for downloaded data sets (it need not exist)."""
    import pooch

    return Path(pooch.os_cache("vaegan"))


def download(published: Published, folder: Path) -> Path:
    """Bring the four files of a data set into `folder`; those already there and whole are kept.

    A file appears under its name only after its sha256 was found right, so an interrupted or
    parallel download does no harm. Progress is drawn on stderr if that is a terminal.

    Returns:
        `folder`.

    Raises:
        DataError: no mirror answers (within seconds), none has the right files, or the folder
            cannot be written.
    """
    from pooch import file_hash, get_logger

    missing = [
        archive
        for archive in published.archives
        if not (path := folder / archive.file_name).is_file()
        or file_hash(str(path)) != archive.sha256
    ]
    if not missing:
        return folder
    get_logger().setLevel("WARNING")
    mirrors = _by_answer(published, missing[0])
    with _progress(published.name, sum(archive.size for archive in missing)) as progress:
        for archive in missing:
            _fetch(published, archive, mirrors, folder, progress)
    return folder


def _by_answer(published: Published, probe: Archive) -> list[str]:
    """Ask all mirrors at once for a small file; put the first that answers in front."""
    import requests

    answers: queue.SimpleQueue[tuple[str, Exception | None]] = queue.SimpleQueue()

    def ask(mirror: str) -> None:
        try:
            url = mirror + probe.file_name
            requests.head(url, timeout=ANSWER_SECONDS, allow_redirects=True).raise_for_status()
            answers.put((mirror, None))
        except Exception as error:
            answers.put((mirror, error))

    for mirror in published.mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    reasons = dict.fromkeys(published.mirrors, "no answer")
    deadline = time.monotonic() + ANSWER_SECONDS
    for _ in published.mirrors:
        try:
            mirror, error = answers.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            break
        if error is None:
            return sorted(published.mirrors, key=lambda other: other != mirror)
        reasons[mirror] = _reason(error)
    raise _unreachable(published, probe, reasons)


def _fetch(
    published: Published, archive: Archive, mirrors: list[str], folder: Path, progress: Any
) -> None:
    """Download one file from the first mirror that has it whole, and move that mirror in front."""
    import requests

    reasons: dict[str, str] = {}
    for mirror in list(mirrors):
        bar = _Bar(progress, f"{published.name}: {archive.file_name}") if progress else None
        try:
            _retrieve(mirror + archive.file_name, archive.sha256, folder, bar)
        except (requests.RequestException, ValueError) as error:  # the mirror's fault
            reasons[mirror] = _reason(error)
            if bar:
                bar.reset()
        except OSError as error:  # this machine's fault
            raise DataError(
                f"cannot save {archive.file_name} in {str(folder)!r} ({type(error).__name__}): "
                "make room there, or set VAEGAN_DATA to a folder that holds the data"
            ) from error
        else:
            mirrors.remove(mirror)
            mirrors.insert(0, mirror)
            return
    raise _unreachable(published, archive, reasons)


def download_file(url: str, size: int, sha256: str, folder: Path, remedy: str) -> Path:
    """Bring one file into `folder` under the last part of its address, unless it is there whole.

    Args:
        url: where it is published.
        size: bytes, for the progress that is drawn on stderr if that is a terminal.
        sha256: of the file (hex); it appears under its name only after this was found right.
        folder: need not exist.
        remedy: what to do where there is no network; it ends the error's line.

    Raises:
        DataError: the address does not answer, has another file, or the folder cannot be written.
    """
    import requests
    from pooch import file_hash, get_logger

    path = folder / url.rsplit("/", 1)[-1]
    if path.is_file() and file_hash(str(path)) == sha256:
        return path
    get_logger().setLevel("WARNING")
    with _progress(path.name, size) as progress:
        try:
            _retrieve(url, sha256, folder, _Bar(progress, path.name) if progress else None)
        except (requests.RequestException, ValueError) as error:
            raise DataError(f"cannot download {url} ({_reason(error)}): {remedy}") from None
        except OSError as error:
            raise DataError(
                f"cannot save {path.name} in {str(folder)!r} ({type(error).__name__}): {remedy}"
            ) from None
    return path


def _retrieve(url: str, sha256: str, folder: Path, bar: _Bar | None) -> None:
    """Download one file; RequestException or ValueError by the server's fault, OSError by ours."""
    import pooch

    # A server that unpacks the file on the way would spoil its sha256.
    downloader = pooch.HTTPDownloader(
        progressbar=bar or False,
        chunk_size=_CHUNK,
        timeout=(CONNECT_SECONDS, STALL_SECONDS),
        headers={"Accept-Encoding": "identity"},
    )
    name = url.rsplit("/", 1)[-1]
    pooch.retrieve(
        url, known_hash=f"sha256:{sha256}", fname=name, path=folder, downloader=downloader
    )


def _reason(error: Exception) -> str:
    """Say in a few words, on one line, why a mirror failed."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, ValueError) and "hash" in str(error).lower():
        return "wrong sha256"
    return type(error).__name__


def _unreachable(published: Published, archive: Archive, reasons: dict[str, str]) -> DataError:
    tried = ", ".join(f"{mirror.split('/')[2]}: {reason}" for mirror, reason in reasons.items())
    return DataError(
        f"cannot download {archive.file_name} of {published.name} ({tried}): use --data digits, "
        "which needs no network, or give a folder with the four IDX files: "
        f"--data FOLDER, or VAEGAN_DATA=FOLDER --data {published.name}"
    )


def _progress(name: str, total: int) -> Any:
    """Return a progress display over all files, or a context of None where nobody looks."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    progress.add_task(name, total=total)
    return progress


class _Bar:
    """What pooch calls as bytes arrive: adds those of one file to the display of all."""

    def __init__(self, progress: Any, description: str) -> None:
        self.progress, self.total, self.seen = progress, 0, 0
        progress.update(progress.task_ids[0], description=description)

    def update(self, count: int) -> None:
        count = min(count, self.total - self.seen)
        self.seen += count
        self.progress.advance(self.progress.task_ids[0], count)

    def reset(self) -> None:
        self.progress.advance(self.progress.task_ids[0], -self.seen)
        self.seen = 0

    def close(self) -> None:
        """Leave the display open for the next file."""
