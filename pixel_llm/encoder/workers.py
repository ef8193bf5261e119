"""
Threads that measure one picture each.

What is measured in a picture of 224×224 is too little for torch to divide among threads: it would wait for them
longer than they compute, many times longer on a busy machine. So pictures are divided instead. In these threads,
and nowhere else, torch uses one thread; there are as many of them as torch would have used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def map_in_workers(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """
    Call *work* for each item, in the process's threads for that, and return the results in order.

    The first error is raised; what has not begun by then is not begun. Safe to call from several threads, but
    not from *work*.
    """
    pool = _workers()
    futures = [pool.submit(work, item) for item in items]
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _workers() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = _start(torch.get_num_threads())
        return _pool


def _start(count: int) -> ThreadPoolExecutor:
    all_there = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first use of torch sets its number, and must not undo the next line
        torch.set_num_threads(1)
        all_there.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="pixel-llm-encoder", initializer=begin)
    for _ in range(count):
        pool.submit(int)  # one thread starts for each, since none is idle before all are there
    all_there.wait()
    # The number is a thread's own, but new threads get the one that was set last, by whomever.
    torch.set_num_threads(count)
    return pool


def _after_fork() -> None:
    """A child has none of its parent's threads, neither these nor those that torch's own loops would wait for."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
