"""
A server that answers at once, in a process of its own: its work is not measured, and takes no turn of the client's GIL.

It knows two answers, a whole one and a stream of :data:`CHUNKS` chunks, and which of them is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

CHUNKS = 500
MODEL = "qwen2.5-vl-7b-instruct"
TEXT = "A red kite over a green hill, with a white house at its foot and a row of trees behind it."


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """Run the server; gives its base URL."""
    with subprocess.Popen([sys.executable, "-m", "benchmarks.answering"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def _whole() -> bytes:
    message = {"role": "assistant", "content": TEXT, "tool_calls": []}
    body = _dump(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50},
        }
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _stream() -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    deltas = [{"delta": {"role": "assistant", "content": f" word{n}"}, "finish_reason": None} for n in range(CHUNKS)]
    deltas.append({"delta": {}, "finish_reason": "stop"})
    shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    events = [b"data: %b\n\n" % _dump(shared | {"choices": [{"index": 0} | delta]}) for delta in deltas]
    return head + b"".join(map(_chunk, [*events, b"data: [DONE]\n\n"])) + b"0\r\n\r\n"


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


class _Answering(asyncio.Protocol):
    whole, stream = _whole(), _stream()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            wants_stream = b'"stream":true' in body.replace(b" ", b"")
            self._transport.write(self.stream if wants_stream else self.whole)


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
