"""The bodies of requests that are sent once, and of responses that stream on when the attempt has ended."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

import httpx

from pixel_llm.errors import ErrorCode, PixelLMError, TimeoutError
from pixel_llm.lm_studio.policy_transport.edge import as_transport_error
from pixel_llm.lm_studio.policy_transport.families import errors_of, family_of
from pixel_llm.lm_studio.translation import translate
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.limits import Limits, current_limits, publish, take_back


class OnceBody:
    """
    A request's body that can be sent only once.

    Attributes:
        spent: True once the first of it was asked for: it may have been sent, and can't be sent again.
    """

    def __init__(self, stream: Any) -> None:
        self.spent = False
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        self._spend()
        yield from self._stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._spend()
        async for chunk in self._stream:
            yield chunk

    def _spend(self) -> None:
        if self.spent:
            raise httpx.StreamConsumed
        self.spent = True


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How long a body may stream on: all of it until the moment *deadline* on *clock*, each wait for a piece
    up to *patience* seconds. None means no limit. *address* is the server's, for messages.
    """

    target: str
    address: str
    clock: Clock
    deadline: float | None
    patience: float | None

    def limits(self) -> Limits:
        """The limits of the next wait."""
        ends = None if self.patience is None else self.clock.monotonic() + self.patience
        return Limits(self.clock, self.deadline, ends)

    def late(self) -> TimeoutError:
        """The error of a body for which the time is up."""
        return TimeoutError(
            f"the deadline passed while the answer of {self.address} was streaming",
            error_code=ErrorCode.ERR_TIMEOUT_DEADLINE, target=self.target, details={"url": self.address},
        )  # fmt: skip

    def explain(self, error: Exception) -> PixelLMError:
        """*error*, raised by a transport, as one of ours; to be called under the limits of the wait."""
        if isinstance(error, PixelLMError):
            return error
        if type(error) is builtins.TimeoutError:  # asyncio's: no socket was to blame
            too_late = current_limits().deadline_passed()
            ours: PixelLMError = self.late() if too_late else translate(httpx.ReadTimeout(""), self.address)
        else:
            ours = translate(error, self.address)
        ours.target = self.target
        ours.__cause__ = error
        return ours


#: Responses that nobody took; see :class:`Rest`.
_forgotten: deque[Any] = deque()


def close_forgotten() -> None:
    """Give back the connections of answers that nobody took, such as that of an attempt which came too late."""
    while _forgotten:
        with contextlib.suppress(IndexError):  # another thread was faster
            _forgotten.popleft().close()


class Rest:
    """What is still to come of a response: its first pieces, the others, and how long they may take."""

    def __init__(self, head: bytes, chunks: Any, response: Any, pace: Pace) -> None:
        self.head, self.chunks, self.response, self.pace = head, chunks, response, pace

    def __del__(self) -> None:
        # Not closed here: the garbage collector may run while this thread holds the pool's lock.
        # An async response is closed by the cancellation of whoever waited for it.
        if isinstance(self.chunks, Iterator) and not self.response.is_closed:
            _forgotten.append(self.response)


class _Live:
    """
    A response's body that is read as it comes, within its :class:`Pace`.

    What a transport raises meanwhile becomes the same exception of the client's own *family*,
    with ours as its cause.
    """

    def __init__(self, rest: Rest, family: ModuleType) -> None:
        self._rest = rest
        self._family = family
        raising = family_of(rest.response) or family  # the transport's own library
        self._errors: tuple[type[Exception], ...] = (PixelLMError, builtins.TimeoutError, *errors_of(raising))

    def _raised(self, error: Exception) -> NoReturn:
        ours = self._rest.pace.explain(error)
        raise as_transport_error(ours, self._family) from ours


class LiveBody(_Live):
    """A :class:`_Live` body for sync clients."""

    def __iter__(self) -> Iterator[bytes]:
        if self._rest.head:
            yield self._rest.head
        while (chunk := self._next()) is not None:
            yield chunk

    def close(self) -> None:
        """Give the connection back."""
        self._rest.response.close()

    def _next(self) -> bytes | None:
        limits = self._rest.pace.limits()
        token = publish(limits)
        try:
            if limits.deadline_passed():
                raise self._rest.pace.late()
            chunk: bytes | None = next(self._rest.chunks, None)
        except self._errors as error:
            self._raised(error)
        finally:
            take_back(token)
        return chunk


class LiveAsyncBody(_Live):
    """A :class:`_Live` body for async clients."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._rest.head:
            yield self._rest.head
        while (chunk := await self._next()) is not None:
            yield chunk

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._rest.response.aclose()

    async def _next(self) -> bytes | None:
        limits = self._rest.pace.limits()
        token = publish(limits)
        try:
            if limits.deadline_passed():
                raise self._rest.pace.late()
            async with asyncio.timeout(limits.remaining()):
                chunk: bytes | None = await anext(self._rest.chunks, None)
        except self._errors as error:
            self._raised(error)
        finally:
            take_back(token)
        return chunk
