"""What tests of logs have in common: a log with a file, and its records."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixel_llm.monitoring import Log, StructuredLogger
from pixel_llm.policy import LoggingConfig


def read(file: Path) -> list[dict[str, Any]]:
    """The records in *file*, each of which is one line."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@contextmanager
def unheard() -> Iterator[None]:
    """The application has no handlers; those of pytest take longer for a record than all of the log does."""
    handlers, logging.root.handlers = logging.root.handlers, []
    try:
        yield
    finally:
        logging.root.handlers = handlers


class Kept:
    """A log with a file, and a logger that writes to it."""

    def __init__(self, path: Path, **config: Any) -> None:
        self.file = path
        self.log = Log(LoggingConfig(**({"file": str(path)} | config)))
        self.logger = StructuredLogger("shop", self.log)

    def records(self) -> list[dict[str, Any]]:
        """All that is written so far."""
        assert self.log.flush(30)
        return read(self.file) if self.file.exists() else []

    def record(self) -> dict[str, Any]:
        """The only one."""
        (record,) = self.records()
        return record
