"""What logging costs: a record, for its caller and until it is written; a call of which there is nothing to log."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from benchmarks.measure import ROUNDS, per_call
from pixel_llm import load_policies
from pixel_llm.monitoring import Log, LogContext, StructuredLogger
from pixel_llm.policy import LoggingConfig

RECORDS = 100_000
PEER = "structlog over QueueHandler"
OURS = "pixel-llm: StructuredLogger"


class _Peer:
    """structlog as its documentation has it, with the fields of ours, over the standard library's queue."""

    def __init__(self, file: Path) -> None:
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(-1)
        self._file = logging.FileHandler(file)
        self._listener = logging.handlers.QueueListener(self._queue, self._file)
        stdlib = logging.Logger("peer", logging.INFO)
        stdlib.addHandler(logging.handlers.QueueHandler(self._queue))
        self._logger = structlog.wrap_logger(
            stdlib,
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=True,
        )
        self._listener.start()

    def write(self, number: int) -> None:
        """One record."""
        self._logger.info(
            "order placed",
            context={"logger": "shop"},
            error_code=None,
            exception_type=None,
            stack_trace=None,
            extra={"number": number, "total": 3.5, "customer": "someone"},
        )

    def flush(self) -> None:
        """Until all is written."""
        self._listener.stop()
        self._listener.start()

    def close(self) -> None:
        self._listener.stop()
        self._file.close()


class _Ours:
    def __init__(self, file: Path) -> None:
        self._log = Log(LoggingConfig(file=str(file), queue_size=10_000_000))
        self._logger = StructuredLogger("shop", self._log)

    def write(self, number: int) -> None:
        """One record."""
        self._logger.info("order placed", number=number, total=3.5, customer="someone")

    def flush(self) -> None:
        """Until all is written."""
        assert self._log.flush(600)
        assert not self._log.dropped

    def close(self) -> None:
        self._log.close(600)


@contextmanager
def _both() -> Iterator[dict[str, tuple[_Peer | _Ours, Path]]]:
    with tempfile.TemporaryDirectory() as folder, LogContext(request_id="req-1", tenant="acme"):
        structlog.contextvars.bind_contextvars(request_id="req-1", tenant="acme")
        files = {PEER: Path(folder) / "peer.log", OURS: Path(folder) / "ours.log"}
        both = {PEER: (_Peer(files[PEER]), files[PEER]), OURS: (_Ours(files[OURS]), files[OURS])}
        try:
            yield both
        finally:
            structlog.contextvars.clear_contextvars()
            for one, _ in both.values():
                one.close()


def record() -> dict[str, float]:
    """Seconds that a record costs its caller, while a thread writes."""
    calls = 5_000
    with _both() as both:
        times: dict[str, list[float]] = {name: [] for name in both}
        for _ in range(ROUNDS):
            for name, (one, _) in both.items():
                started = time.perf_counter()
                for number in range(calls):
                    one.write(number)
                times[name].append((time.perf_counter() - started) / calls)
                one.flush()
        return {name: statistics.median(measured) for name, measured in times.items()}


def many() -> dict[str, float]:
    """Seconds until 100,000 records are in the file, in order, all of them."""
    times: dict[str, float] = {}
    with _both() as both:
        for name, (one, file) in both.items():
            started = time.perf_counter()
            for number in range(RECORDS):
                one.write(number)
            one.flush()
            times[name] = time.perf_counter() - started
            with file.open() as lines:
                assert [json.loads(line)["extra"]["number"] for line in lines] == list(range(RECORDS))
    return times


def success() -> dict[str, float]:
    """Seconds of a call that succeeds, through a stack whose policy logs and through one whose policy does not."""
    targets = {"a.b": {"deadline": "60s", "retry": {}, "circuit_breaker": {}, "idempotent": True}}
    candidates: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        logging_sections = {
            "without a file, at CRITICAL": {"level": "CRITICAL"},
            "with a file, at INFO": {"level": "INFO", "file": str(Path(folder) / "a.log")},
        }
        opened = []
        for name, section in logging_sections.items():
            policies = load_policies(profile="basic", overrides={"targets": targets, "logging": section})
            opened.append(policies)
            candidates[name] = policies.wrap("a.b", lambda: None)
        try:
            return per_call(candidates)
        finally:
            for policies in opened:
                policies.close()
