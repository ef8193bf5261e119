from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_llm.errors import APIError, ConnectionError, ErrorCode, PixelLMError
from pixel_llm.lm_studio import ChatChunk
from pixel_llm.lm_studio.chat_stream import ChatStream
from pixel_llm.lm_studio.replies import RawReply, read_chat

ADDRESS = "http://127.0.0.1:1234"
DONE = b"data: [DONE]\n\n"
NONSENSE = ErrorCode.ERR_API_INVALID_RESPONSE


def event(document: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document)}\n\n".encode()


def chunk(content: object = None, reason: str | None = None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    return event({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} | more)


def thought(text: str, name: str = "reasoning_content") -> bytes:
    return event({"choices": [{"delta": {name: text}}]})


def read(
    *parts: bytes,
    status: int = 200,
    kind: str = "text/event-stream",
    longest: int = 10_000,
    secrets: tuple[str, ...] = (),
) -> list[ChatChunk]:
    head = RawReply(status, {"content-type": kind}, b"", ADDRESS, secrets)
    stream = ChatStream(head, "m", longest=longest)
    found = []
    for part in parts:
        found += stream.feed(part)
        if stream.done:
            break
    return found + list(stream.finish())


def outcome(*parts: bytes, **options: object) -> tuple[list[str], ErrorCode | None, str]:
    """The texts, and the error in which the stream ends."""
    head = RawReply(200, {"content-type": "text/event-stream"} | options, b"", ADDRESS)
    stream = ChatStream(head, "m", longest=10_000)
    texts: list[str] = []
    try:
        for part in parts:
            texts.extend(piece.text for piece in stream.feed(part))
        texts.extend(piece.text for piece in stream.finish())
    except PixelLMError as error:
        return texts, error.error_code, str(error)
    return texts, None, ""


class TestPieces:
    def test_a_whole_stream(self):
        """
        Pieces of text, then one that closes it and has what there is to tell.
        """
        usage = event({"model": "m", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})

        assert [ChatChunk("A", "m"), ChatChunk(" cat.", "m"), ChatChunk("", "m", "stop", 7, 2)] == read(
            chunk(""), chunk("A"), chunk(" cat."), chunk(reason="stop"), usage, DONE
        )

    def test_text_beside_the_finish_reason(self):
        """
        It is a piece of its own; the closing one never has text.
        """
        assert [ChatChunk("A cat.", "m"), ChatChunk("", "m", "length")] == read(chunk("A cat.", "length"), DONE)

    def test_a_cut_answer_says_so(self):
        """
        ``finish_reason: length`` is told.
        """
        assert [False, True] == [piece.truncated for piece in read(chunk("A", "length"))]

    @pytest.mark.parametrize("ending", [DONE, chunk(reason="stop"), b"data: [DONE]"])
    def test_proper_ends(self, ending):
        """
        ``[DONE]`` ends a stream, and so does a finish_reason with HTTP's end.
        """
        assert "A cat." == "".join(piece.text for piece in read(chunk("A cat."), ending))

    def test_a_last_event_without_its_blank_line(self):
        """
        It counts, as HTTP says that it is whole.
        """
        pieces = read(chunk("A"), chunk(" cat.", "stop").rstrip())

        assert [ChatChunk("A", "m"), ChatChunk(" cat.", "m"), ChatChunk("", "m", "stop")] == pieces

    def test_what_comes_after_done_is_nobodys(self):
        """
        The answer is complete with ``[DONE]``.
        """
        assert 2 == len(read(chunk("A cat.") + DONE + b"proxy error: Failed to read connection"))

    def test_white_space_around_the_answer(self):
        """
        Pieces joined are what chat() gives: neither begin nor end is white space, and what lies between is kept.
        """
        texts = [piece.text for piece in read(*map(chunk, ["\n", "  A", " ", "\n", "cat", ". ", " "]), DONE)]

        assert ["A", " \ncat", ".", ""] == texts

    def test_a_character_in_two_halves(self):
        """
        Servers that cut a character into two escapes give a whole one; a lone half does no harm.
        """
        lion = "🦁".encode("utf-16-be")
        halves = [lion[:2].decode("utf-16-be", "surrogatepass"), lion[2:].decode("utf-16-be", "surrogatepass")]

        texts = [piece.text for piece in read(chunk("a" + halves[0]), chunk(halves[1] + "b"), chunk(halves[0]), DONE)]

        assert "a🦁b\ufffd" == "".join(texts)

    def test_who_answers(self):
        """
        The model's name comes from the stream; without one the model is taken to be the one that was asked.
        """
        stream = ChatStream(RawReply(200, {}, b"", ADDRESS), "publisher/other", longest=1000)
        nameless = [*stream.feed(event({"choices": [{"delta": {"content": "A"}}]}))]
        matches = stream.model_matches
        named = [*stream.feed(chunk("B"))]

        assert ("publisher/other", True, "m", False) == (
            nameless[0].model,
            matches,
            named[0].model,
            stream.model_matches,
        )

    @pytest.mark.parametrize("strange", [{"choices": None}, {"x": 1}, {"choices": [], "usage": None}, {"message": ""}])
    def test_events_that_say_nothing_are_passed_by(self, strange):
        """
        Progress and other news of a server are no errors.
        """
        assert "A" == read(event(strange), chunk("A"), DONE)[0].text

    @pytest.mark.parametrize("delta", [None, [], "A", {"content": None}, {"content": 7}, {"content": ["A"]}, {}])
    def test_deltas_without_text_are_passed_by(self, delta):
        """
        Roles, tool calls and nonsense are no text.
        """
        assert ["A", ""] == [piece.text for piece in read(event({"choices": [{"delta": delta}]}), chunk("A"), DONE)]


class TestReasoning:
    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_it_is_the_answer_where_there_is_none(self, name):
        """
        As chat() has it: several models answer where their thoughts belong.
        """
        assert [ChatChunk("A cat.", "m", from_reasoning=True), ChatChunk("", "m", "stop", from_reasoning=True)] == read(
            thought(" A ", name), thought("cat.\n", name), chunk(reason="stop"), DONE
        )

    def test_it_is_left_out_beside_an_answer(self):
        """
        Thoughts before, or between, are no answer.
        """
        texts = [piece.text for piece in read(thought("Hm."), chunk("A"), thought("Hm."), chunk(" cat."), DONE)]

        assert ["A", " cat.", ""] == texts

    def test_cut_off_while_thinking(self):
        """
        Thoughts that max_tokens has ended are no answer.
        """
        texts, code, message = outcome(thought("Hm."), chunk(reason="length"), DONE)

        assert ([], NONSENSE) == (texts, code)
        assert "raise max_tokens" in message

    def test_only_white_space(self):
        """
        It is no answer, and no thought.
        """
        assert NONSENSE is outcome(thought(" "), chunk(" \n"), DONE)[1]


class TestBreaks:
    @pytest.mark.parametrize(
        ("parts", "texts", "code"),
        [
            pytest.param([], [], NONSENSE, id="empty"),
            pytest.param([b"\n\n"], [], NONSENSE, id="blank"),
            pytest.param([b": wait\n\n"], [], ErrorCode.ERR_CONN_LOST, id="only comments"),
            pytest.param([chunk("A")], ["A"], ErrorCode.ERR_CONN_LOST, id="no end"),
            pytest.param([chunk("A"), b'data: {"cho'], ["A"], ErrorCode.ERR_CONN_LOST, id="in mid-event"),
            pytest.param([chunk("A"), b'data: {"cho\n\n', DONE], ["A"], NONSENSE, id="no JSON"),
            pytest.param([event([1])], [], NONSENSE, id="no object"),
            pytest.param([event({"choices": "A"})], [], NONSENSE, id="no choices"),
            pytest.param([event({"choices": ["A"]})], [], NONSENSE, id="no choice"),
            pytest.param([DONE], [], NONSENSE, id="nothing said"),
            pytest.param([chunk("", "stop"), DONE], [], NONSENSE, id="nothing said at all"),
            pytest.param([chunk("A"), b"proxy error: x"], ["A"], NONSENSE, id="text"),
            pytest.param([chunk("A", "stop"), b"oops"], ["A"], NONSENSE, id="text at the end"),
            pytest.param([b"oops"], [], NONSENSE, id="text only"),
            pytest.param([chunk("x" * 10_001)], [], NONSENSE, id="too long"),
        ],
    )
    def test_a_stream_that_does_not_end_properly_raises(self, parts, texts, code):
        """
        After all that had come before; nothing ends in silence.
        """
        assert (texts, code) == outcome(*parts)[:2]

    def test_how_far_it_came_is_told(self):
        """
        In characters.
        """
        assert (
            f"the stream of {ADDRESS} ended before the answer was complete: neither finish_reason nor [DONE] came,"
            " after 3 characters"
        ) == outcome(chunk("A c"))[2]

    @pytest.mark.parametrize("name", ["", "error"])
    @pytest.mark.parametrize("before", [[], [chunk("A")]])
    @pytest.mark.parametrize(
        "document",
        [
            {"error": "Context size has been exceeded."},
            {"error": {"message": "Context size has been exceeded.", "type": "x", "code": None}},
            {"error": {"message": "Context size has been exceeded."}, "message": "Context size has been exceeded."},
            {"message": "Context size has been exceeded."},
            {"error": {"code": "context_length_exceeded"}},
        ],
    )
    def test_errors_in_events(self, name, before, document):
        """
        With or without ``event: error``, in every envelope, before the first piece or after.
        """
        assert (["A"] if before else [], ErrorCode.ERR_API_CONTEXT_LENGTH) == outcome(*before, event(document, name))[
            :2
        ]

    @pytest.mark.parametrize("data", ['"Compute error."', "Compute error.", ""])
    def test_errors_that_are_no_object(self, data):
        """
        ``event: error`` is one, whatever follows.
        """
        assert ErrorCode.ERR_API_SERVER_ERROR is outcome(f"event: error\ndata: {data}\n\n".encode())[1]

    def test_secrets_are_not_quoted(self):
        """
        A server that shows the key in an event does not get it into the error.
        """
        with pytest.raises(APIError) as caught:
            read(event({"error": "Compute error. key lm-key"}), secrets=("lm-key",))

        assert "lm-key" not in f"{caught.value} {caught.value.details}"

    def test_facts(self):
        """
        The error has where, which status, and what the server said.
        """
        with pytest.raises(APIError) as caught:
            read(event({"error": "Compute error."}))

        assert {
            "url": ADDRESS,
            "status": 200,
            "body": '{"error": "Compute error."}',
            "model": "m",
        } == caught.value.details


WHOLE = {"model": "m", "choices": [{"message": {"content": "A cat."}, "finish_reason": "stop"}]}


class TestDocuments:
    """Servers that answer with one JSON body, though a stream was asked for."""

    @pytest.mark.parametrize("kind", ["application/json", "text/event-stream", ""])
    def test_a_whole_answer(self, kind):
        """
        It is one piece and the end, whatever it calls itself.
        """
        body = json.dumps(WHOLE | {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()

        assert [ChatChunk("A cat.", "m"), ChatChunk("", "m", "stop", 1, 2)] == read(
            b" \n", body[:9], body[9:], kind=kind
        )

    @pytest.mark.parametrize(
        ("status", "kind", "body", "code"),
        [
            (200, "application/json", b'{"error":"No models loaded."}', ErrorCode.ERR_API_OVERLOAD),
            (200, "text/event-stream", b'{\n"error":"No models loaded."}', ErrorCode.ERR_API_OVERLOAD),
            (404, "application/json", b'{"error":"No models loaded."}', ErrorCode.ERR_API_OVERLOAD),
            (
                400,
                "text/event-stream",
                b'data: {"error":{"code":"model_not_found"}}',
                ErrorCode.ERR_API_MODEL_NOT_FOUND,
            ),
            (500, "text/event-stream", b"data: {", ErrorCode.ERR_API_SERVER_ERROR),
            (503, "text/event-stream", b"", ErrorCode.ERR_API_OVERLOAD),
            (503, "text/plain", b"Loading model", ErrorCode.ERR_API_OVERLOAD),
            (200, "text/html", b"<html>", NONSENSE),
            (200, "application/json", b"", NONSENSE),
            (200, "application/json", b'{"cho', NONSENSE),
            (200, "application/json", b" " * 10_001, NONSENSE),
        ],
    )
    def test_errors(self, status, kind, body, code):
        """
        What a plain answer would raise is raised here, too.
        """
        with pytest.raises(APIError) as caught:
            read(body, status=status, kind=kind)

        assert code is caught.value.error_code


@given(
    st.lists(st.sampled_from(["A", " ", "\n", "cat", "ö", "🦁", "", " b "]), max_size=8),
    st.lists(st.integers(0, 600), max_size=8),
)
def test_pieces_joined_are_the_whole_answer(words, cuts):
    """
    However the text and the bytes are cut, a stream says what one JSON body would have said, or fails like it.
    """
    body = b"".join(chunk(word) for word in words) + chunk(reason="stop") + DONE
    places = sorted(min(cut, len(body)) for cut in cuts)
    parts = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    message = {"message": {"content": "".join(words)}, "finish_reason": "stop"}
    whole = RawReply(200, {}, json.dumps({"model": "m", "choices": [message]}).encode(), ADDRESS)

    try:
        expected: object = read_chat(whole, "m").text
    except APIError as error:
        expected = error.error_code
    texts, code, _ = outcome(*parts)

    assert expected == (code or "".join(texts))
    assert all(texts[:-1])


def test_no_other_exception():
    """
    A stream that breaks raises errors of ours only.
    """
    with pytest.raises(ConnectionError):
        read(chunk("A"))
