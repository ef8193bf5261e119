"""
A log: where the records of one `logging` section go.

::

    level? → sampled? ┬→ queue ┄→ file, console, in a thread of their own
                      └→ the application's handlers, in the caller's thread
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable

from pixel_llm.monitoring.logs.application import Application
from pixel_llm.monitoring.logs.channel import Channel
from pixel_llm.monitoring.logs.console import ConsoleSink
from pixel_llm.monitoring.logs.file import FileSink
from pixel_llm.monitoring.logs.levels import Levels
from pixel_llm.monitoring.logs.outputs import Output, Sink
from pixel_llm.monitoring.logs.record import Record, note
from pixel_llm.monitoring.logs.rendering import render_json
from pixel_llm.monitoring.logs.sampling import Sampling
from pixel_llm.policy import LogContent, LoggingConfig

#: So many seconds :meth:`Log.flush` and :meth:`Log.close` wait for a sink that hangs.
PATIENCE = 5.0


class Log:
    """
    Where records go. Safe for concurrent use, and after fork.

    No handler is added to the root logger or to ``pixel_llm``. Without file and console there is no thread either.

    Args:
        config: Levels, sinks, sampling.

    Attributes:
        levels: Which records are wanted.
        writes_content: Whether the policy lets prompts and captions be written.
        has_console: Whether the console is one of its outputs.
    """

    def __init__(self, config: LoggingConfig) -> None:
        self.levels = Levels(config.level, config.levels)
        self.writes_content = config.log_content is LogContent.FULL
        self.has_console = config.console
        self._sampling = None if config.sampling is None else Sampling(config.sampling)
        self._outputs = [Output(sink) for sink in _sinks(config)]
        self._application = Application(is_only_reader=not self._outputs)
        self._size = config.queue_size
        self._dropped_before = 0
        self._channel = self._open() if self._outputs else None

    @property
    def dropped(self) -> int:
        """How many records were not written because too many were waiting."""
        return self._dropped_before + (0 if self._channel is None else self._channel.dropped)

    @property
    def lost(self) -> int:
        """How many records file or console could not take, as on a full disk; one that both missed counts twice."""
        return sum(output.lost for output in self._outputs)

    @property
    def left_out(self) -> int:
        """How many records sampling has left out."""
        return 0 if self._sampling is None else self._sampling.left_out

    def wants(self, name: str, level: int, least: int | None = None) -> bool:
        """
        True if records of the target or logger *name* are written at this *level*.

        Levels are the standard library's numbers; with *least*, that is the lowest one, not the policy's. What only
        the application's handlers would get counts if they take it.
        """
        if level < (self.levels.of(name) if least is None else least):
            return False
        return self._channel is not None or self._application.takes(name, level)

    def write(
        self, name: str, level: int, record: Record, key: Hashable | None, *, to_application: bool = True
    ) -> None:
        """
        Write *record* down; whether it is wanted has been asked. Never waits for file or console.

        Args:
            name: Its logger's name.
            level: Its level, as a number.
            record: It is not changed by its maker any more.
            key: What it says; records with equal ones say the same. One without a key is never left out.
            to_application: Whether the application's handlers get it; they may have been told in another way.
        """
        if self._sampling is not None and key is not None:
            left_out = self._sampling.take(key)
            if left_out is None:
                return
            if left_out:
                record["extra"]["left_out"] = left_out
        # Rendered before another thread may do the same: both would read the lines of a stack trace.
        text = render_json(record) if to_application and self._application.takes(name, level) else None
        if self._channel is not None:
            self._channel.offer(record)
        if text is not None:
            told = self._application.hand_over(name, level, text)
            if told is not None and self._channel is not None:
                self._channel.offer(told)

    def flush(self, timeout: float = PATIENCE) -> bool:
        """
        Wait, up to *timeout* seconds, until all records are written so far.

        Returns:
            True if they are. False where time was too short, or while file or console can't be written; :attr:`lost`
            says how many records have been lost in all.
        """
        return self._channel is None or (self._channel.flush(timeout) and self._is_well())

    def close(self, timeout: float = PATIENCE) -> bool:
        """
        Write what waits, up to *timeout* seconds, and close the sinks. A later record opens them again.

        After a sink that hangs nothing is opened again: later records go to the application only.

        Returns:
            True if all is written, as of :meth:`flush`.
        """
        if self._channel is None:
            return True
        untold = 0 if self._sampling is None else self._sampling.untold()
        if untold:
            self._channel.offer(note("records_left_out", left_out=untold))
        done = self._channel.close(timeout)
        if done:
            self._dropped_before += self._channel.dropped
            self._channel = self._open()
        return done and self._is_well()

    def _is_well(self) -> bool:
        return not any(output.is_in_trouble for output in self._outputs)

    def _open(self) -> Channel:
        """A way to the sinks; nothing runs before the first record."""
        channel = Channel(self._outputs, self._size)
        # Nobody waits where a garbage collector closes it. At the end of the process the channel finishes.
        weakref.finalize(self, channel.close, 0).atexit = False
        return channel


def _sinks(config: LoggingConfig) -> list[Sink]:
    sinks: list[Sink] = []
    if config.file is not None:
        sinks.append(FileSink(config.file, config.rotation))
    if config.console:
        sinks.append(ConsoleSink(config.format))
    return sinks
