"""
The scripted LM Studio: a real HTTP/1.1 server on a real loopback socket.

One thread listens, one serves each connection. A script says what goes wrong, and
when; the server does it to the socket, so that what a client sees is what it would
see of a real server in trouble.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

import h11

from pixel_llm.errors import ValidationError
from pixel_llm.testing.playbook import Playbook
from pixel_llm.testing.request import RecordedRequest, Request
from pixel_llm.testing.sockets import Connection, GoneError, Listener
from pixel_llm.testing.steps import DEFAULT_MODELS, Answer, Crash, Refuse, Step, complain_of_last
from pixel_llm.testing.wire import Ending, Reply, render, response

#: How long to wait for idle connections to close, in seconds; it takes microseconds.
_PATIENCE = 1.0

_NO_HTTP = response(400, b"", closing=True)


class ScriptedLMStudio:
    """
    A server that answers like LM Studio, and misbehaves as its script says.

    ::

        with ScriptedLMStudio(script=[Status(status=503, retry_after=2), Hang()]) as server:
            ask(server.base_url)

    Each request to ``POST /v1/chat/completions`` takes the next step; a step with a
    *path* waits for a request to that path. Everything else is answered as LM Studio
    does. All methods are thread-safe. Delays are real seconds.

    Args:
        script: The steps, in order.

        then: Serves when the script is used up.

        on_step:
            Called with each step of the script as it begins, in the thread that
            serves it, before anything is sent. Tests move their virtual clock here.
            For a :class:`Refuse` that is once the port is shut, in the thread that shut it.
            If it raises, the connection is closed and the thread reports the error.

        models: What ``GET /v1/models`` lists, and LM Studio's own lists.

        loaded: Which of them are loaded at first, for LM Studio's own lists; all, unless told. A request to load one,
            or a chat with it, loads it.

        api_key: When set, requests without it get 401; they take no step.

        check_model: When set, chats with a model not in *models* get 400, as loads of one do; they take no step.

        own_api: When False, the paths of LM Studio's own API are not there, as on other OpenAI-compatible servers.

        host: An IPv4 address or name.

        port: 0 takes a free one. It stays the same while the server is down.

        keep_alive: Seconds after which an idle connection is closed.

    Raises:
        ValidationError: If something is not a step, or *then* cannot serve for ever.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        then: Step | None = None,
        on_step: Callable[[Step], object] | None = None,
        models: Sequence[str] = DEFAULT_MODELS,
        loaded: Sequence[str] | None = None,
        api_key: str | None = None,
        check_model: bool = False,
        own_api: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_alive: float = 5.0,
    ) -> None:
        self._script = _check_steps(script)
        (last,) = _check_steps([Answer() if then is None else then])
        if complaint := complain_of_last(last):
            raise ValidationError(f"then {complaint}")
        self._on_step = on_step
        self._keep_alive = keep_alive

        self._listener = Listener(host, port, self._welcome)
        self._news = threading.Condition()  # guards all that follows
        self._playbook = Playbook(
            then=last,
            models=tuple(models),
            loaded=None if loaded is None else tuple(loaded),
            api_key=api_key,
            check_model=check_model,
            own_api=own_api,
        )
        self._requests: list[RecordedRequest] = []
        self._connections: dict[Connection, threading.Thread] = {}
        self._comeback: threading.Timer | None = None
        self._started = self._closed = False

    def start(self) -> ScriptedLMStudio:
        """
        Listen, and begin the script. A server starts once.

        Raises:
            ValidationError: If the port is taken, or the server was started before.
        """
        if self._started:
            raise ValidationError("must be started only once: make another server")
        try:
            self._listener.open()
        except (OSError, OverflowError) as exc:
            self._listener.close()
            address = f"{self._listener.host}:{self._listener.port}"
            raise ValidationError(f"cannot listen on {address}: {getattr(exc, 'strerror', None) or exc}") from exc
        self._started = True
        self.extend(self._script)
        return self

    def close(self) -> None:
        """End every connection and thread at once, hanging ones too. The record stays."""
        with self._news:
            self._closed = True
        self._cancel_comeback()
        self._listener.close()
        with self._news:
            connections = dict(self._connections)
        for connection in connections:
            connection.hang_up("close")
        for thread in connections.values():
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> ScriptedLMStudio:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port; 0 before the start if none was asked for."""
        return self._listener.port

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL, such as ``http://127.0.0.1:1234/v1``."""
        return f"http://{self._listener.host}:{self.port}/v1"

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request so far, in the order in which they were read to their end."""
        with self._news:
            return tuple(self._requests)

    @property
    def pending(self) -> int:
        """How many steps of the script have not begun yet."""
        with self._news:
            return self._playbook.pending

    def wait_for_requests(self, count: int, timeout: float | None = 5.0) -> bool:
        """Block until *count* requests are recorded; False if that took more than *timeout* seconds."""
        with self._news:
            return self._news.wait_for(lambda: len(self._requests) >= count, timeout)

    def extend(self, steps: Iterable[Step]) -> None:
        """
        Add steps. A :class:`Refuse` that nothing is left in front of begins now.

        Raises:
            ValidationError: If something is not a step.
        """
        steps = _check_steps(steps)
        if not self._started:
            self._script += steps
            return
        with self._news:
            refusals = self._playbook.extend(steps)
        self._refuse_for(refusals)

    def refuse(self) -> None:
        """Stop listening until :meth:`accept`: connections are refused, idle ones closed."""
        self._go_down(None)

    def accept(self) -> None:
        """Listen again on the same port; ends a :class:`Refuse` or :class:`Crash` early."""
        self._cancel_comeback()
        self._listener.open()

    # One connection

    def _welcome(self, sock: socket.socket) -> None:
        connection = Connection(sock)
        thread = threading.Thread(target=self._serve, args=(connection,), name="lm-studio-connection", daemon=True)
        with self._news:
            self._connections = {known: its for known, its in self._connections.items() if its.is_alive()}
            self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: Connection) -> None:
        reply = Reply(ending="close")
        try:
            while True:
                connection.idle = True
                request = connection.read_request(self._keep_alive)
                connection.idle = False
                reply = self._answer(connection, request)
                if reply.ending != "keep" or not self._listener.listening:
                    return
        except GoneError:
            return
        except h11.RemoteProtocolError:
            self._say_bad_request(connection)
        finally:
            connection.close(reply.ending)

    def _answer(self, connection: Connection, request: Request) -> Reply:
        with self._news:
            step, scripted, refusals = self._playbook.take(request)
            self._requests.append(request.answered_by(step))
            serial = len(self._requests)
            self._news.notify_all()
        if scripted:
            self._tell(step)
        closing = bool(refusals) or not self._listener.listening
        reply = render(step, request, serial=serial, model=self._playbook.default_model, closing=closing)
        try:
            connection.wait(reply.delay)
            with self._news:
                self._playbook.note_served(step, request)
            connection.send(reply.quick)
            for piece in reply.slow:
                connection.send(piece)
                connection.wait(reply.interval)
        finally:  # the script goes on, whether or not the client has waited for it
            if isinstance(step, Crash):
                self._go_down(step.down + sum(refusal.seconds for refusal in refusals), "reset", spare=connection)
            else:
                self._refuse_for(refusals)
        connection.send(reply.rest)
        connection.wait(reply.pause)
        return reply

    def _say_bad_request(self, connection: Connection) -> None:
        try:
            connection.send(_NO_HTTP)
        except GoneError:
            return

    def _tell(self, step: Step) -> None:
        if self._on_step is not None:
            self._on_step(step)

    # Down and up again

    def _refuse_for(self, refusals: Sequence[Refuse]) -> None:
        if refusals:
            self._go_down(sum(refusal.seconds for refusal in refusals))
        for refusal in refusals:
            self._tell(refusal)

    def _go_down(self, seconds: float | None, ending: Ending = "close", *, spare: Connection | None = None) -> None:
        """Stop listening, for *seconds* or until told; end the idle connections, on a reset all but *spare*."""
        self._cancel_comeback()
        self._listener.shut()
        with self._news:
            connections = {known: thread for known, thread in self._connections.items() if known is not spare}
        idle = [thread for connection, thread in connections.items() if connection.idle]
        for connection in connections:
            if connection.idle or ending == "reset":
                connection.hang_up(ending)
        for thread in idle:  # so that no client takes a connection for alive that is about to be closed
            thread.join(_PATIENCE)
        with self._news:
            if seconds is None or self._closed:
                return
            if self._comeback is not None:  # another thread was faster
                self._comeback.cancel()
            self._comeback = threading.Timer(seconds, self._listener.open)
            self._comeback.daemon = True
            self._comeback.start()

    def _cancel_comeback(self) -> None:
        with self._news:
            timer, self._comeback = self._comeback, None
        if timer is not None:
            timer.cancel()
            timer.join()


def _check_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    steps = tuple(steps)
    for step in steps:
        if not isinstance(step, Step):
            raise ValidationError(f"must be a step such as Hang() (got {step!r})")
    return steps
