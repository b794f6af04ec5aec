"""Calls in parallel, in threads or in processes, a few at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context, parent_process, resource_tracker
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
    begun: Callable[[], AbstractContextManager[None]]
    if processes and workers > 1:
        # A fresh interpreter each: to fork a process that has threads is to fork their locks.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin)
        begun = _interrupts_held
    else:
        pool = ThreadPoolExecutor(workers)
        begun = nullcontext
    pending: set[Future[Result]] = set()
    try:
        for arguments in calls:
            with begun():  # the executor starts its processes in submit
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


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process begun within never sees Ctrl-C, from its first instruction on: the mask is its own.

    To ignore it in the worker's own code comes too late for one that is still starting.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started within, it would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """In a worker: Ctrl-C is its parent's business, and it ends when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where there is no mask to inherit
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """However the parent ends, by SIGKILL too."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
