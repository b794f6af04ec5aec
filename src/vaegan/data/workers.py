"""Calls in parallel, in threads or in processes, a few at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

from vaegan.errors import DataError

__all__ = ["finished", "processors"]

Result = TypeVar("Result")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finished(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    workers: int,
    *,
    processes: bool,
) -> Generator[Result, None, None]:
    """Call `function(*arguments)` for all of `calls`; yield results in the order of their coming.

    Arguments are taken as they are needed, two calls a worker at a time. With one worker there are
    no processes. Close the generator to stop early: it waits for the calls that have begun. What a
    call raises is raised here; DataError when a process died.
    """
    pool: Executor
    if processes and workers > 1:
        # A fresh interpreter each: to fork a process that has threads is to fork their locks.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin)
    else:
        pool = ThreadPoolExecutor(workers)
    pending: set[Future[Result]] = set()
    try:
        for arguments in calls:
            pending.add(pool.submit(function, *arguments))
            if len(pending) >= 2 * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenExecutor:
        raise DataError(
            "a worker process died, perhaps for lack of memory: the same command goes on from "
            "here; give it fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a worker: Ctrl-C is its parent's business, and it ends when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """However the parent ends, by SIGKILL too."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
