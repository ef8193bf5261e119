"""The scripted LM Studio in a process of its own: its threads shall not take turns with those that are watched."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

from pixel_llm.testing import ScriptedLMStudio
from soak.captions.faults import draw_steps


@contextlib.contextmanager
def running(seed: int, count: int) -> Iterator[str]:
    """Serve *count* steps of *seed*, and answer from then on; gives the base URL."""
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the locks of threads that it does not have
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, seed, count), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _serve(pipe: Connection, seed: int, count: int) -> None:
    with ScriptedLMStudio(draw_steps(seed, count)) as server:
        pipe.send(server.base_url)
        with contextlib.suppress(EOFError):  # the other end is closed: it is over
            pipe.recv()
