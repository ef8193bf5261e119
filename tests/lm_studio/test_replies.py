from __future__ import annotations

import json
from typing import Any

import pytest

from pixel_llm.errors import APIError, ErrorCode, classify_error
from pixel_llm.lm_studio.known_errors import KNOWN_ERRORS
from pixel_llm.lm_studio.replies import BODY_LENGTH, NO_WORDS, ChatReply, RawReply, read_chat, read_models

EMPTY = f"is empty (finish_reason None); {NO_WORDS}"

#: Every row of the table of LM Studio's errors: name, status, text, the envelope's further fields, what it means.
ROWS = [
    ("unknown model", 400, 'Invalid model identifier "x".', {"code": "model_not_found"}, "MODEL_NOT_FOUND"),
    ("unknown model, by text", 400, 'Invalid model identifier "x".', {}, "MODEL_NOT_FOUND"),
    ("unknown model, older", 404, 'Model "x" not found', {}, "MODEL_NOT_FOUND"),
    ("nothing loaded", 400, "No models loaded. Please load a model in the developer page", {}, "OVERLOAD"),
    ("nothing loaded, older", 404, "No models loaded. Please load a model", {}, "OVERLOAD"),
    ("load failed", 500, "Failed to load model", {"type": "model_load_failed"}, "SERVER_ERROR"),
    ("load failed, by type", 500, "aborted", {"type": "model_load_failed"}, "SERVER_ERROR"),
    ("load failed on context", 500, "the context length is too large", {"type": "model_load_failed"}, "SERVER_ERROR"),
    ("load stopped", 400, "Model loading was stopped due to insufficient system resources.", {}, "SERVER_ERROR"),
    (
        "context", 400,
        "The number of tokens to keep from the prompt is greater than the context length (n_keep: 9>= n_ctx: 8)",
        {}, "CONTEXT_LENGTH",
    ),
    (
        "context, newer", 400,
        "Trying to keep the first 9000 tokens when context the overflows. However, it is loaded with 4096 tokens",
        {}, "CONTEXT_LENGTH",
    ),
    (
        "context, llama.cpp", 400, "the request exceeds the available context size, try increasing it",
        {"type": "exceed_context_size_error", "code": 400}, "CONTEXT_LENGTH",
    ),
    ("context, while running", 400, "Context size has been exceeded.", {}, "CONTEXT_LENGTH"),
    ("bad image", 400, "'url' field must be a base64 encoded image.", {}, "BAD_REQUEST"),
    ("text-only model", 400, "Model does not support images. Please use a model that does.", {}, "BAD_REQUEST"),
    ("vision add-on", 400, "Vision add-on is not loaded, but images were provided", {}, "BAD_REQUEST"),
    (
        "vision, llama.cpp", 500, "image input is not supported - hint: you may need to provide the mmproj",
        {"type": "server_error", "code": 500}, "BAD_REQUEST",
    ),
    (
        "model crash", 400, "The model has crashed without additional information. (Exit code: 1844674407)",
        {}, "SERVER_ERROR",
    ),
    ("unloaded", 400, "Model is unloaded.", {}, "SERVER_ERROR"),
    ("channel", 400, "Channel Error", {}, "SERVER_ERROR"),
    ("compute", 400, "Compute error.", {}, "SERVER_ERROR"),
    ("key", 401, "Malformed LM Studio API token provided", {"code": "invalid_api_key"}, "UNAUTHORIZED"),
    ("key, by text", 401, "An LM Studio API token is required to make requests", {}, "UNAUTHORIZED"),
    ("loading", 503, "Loading model", {"type": "unavailable_error", "code": 503}, "OVERLOAD"),
    ("loading, by text", 503, "Loading model", {}, "OVERLOAD"),
    ("rate limit", 429, "Too many requests", {}, "RATE_LIMIT"),
    ("wrong path", 404, "Unexpected endpoint or method. (POST /chat/completions)", {}, "BAD_REQUEST"),
]  # fmt: skip


def envelopes(text: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The envelopes in which such an error can come: a string has no fields."""
    nested = {"object": {"error": {"message": text, **fields}}}
    both = {"object and message": {"error": {"message": text, **fields}, "message": text}}
    return nested | both | ({} if fields else {"string": {"error": text}})


CASES = [
    pytest.param(sent, body, f"ERR_API_{code}", id=f"{name}, {sent}, {envelope}")
    for name, status, text, fields, code in ROWS
    for envelope, body in envelopes(text, fields).items()
    for sent in (status, 200)
]


def raw(
    body: Any = b"", status: int = 200, kind: str = "application/json", secrets: tuple[str, ...] = (), **headers: str
) -> RawReply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawReply(status, {"content-type": kind, **names}, content, "http://127.0.0.1:1234", secrets)


def chat(content: Any = "A cat.", finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "tool_calls": [], **more.pop("message", {})}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "model": "m", **more}


def error_of(reply: RawReply) -> APIError:
    with pytest.raises(APIError) as caught:
        read_chat(reply, "m")
    return caught.value


class TestKnownErrors:
    @pytest.mark.parametrize(("status", "body", "code"), CASES)
    def test_every_row_in_every_envelope_with_its_status_and_with_200(self, status, body, code):
        """
        The texts tell what happened; the status, which may be 200, does not.
        """
        assert code == error_of(raw(body, status)).error_code

    def test_every_pattern_is_reached(self):
        """
        No row of the table hides behind another.
        """
        texts = [text for _, _, text, _, _ in ROWS] + ["server is busy"]
        first = [next((n for n, known in enumerate(KNOWN_ERRORS) if known.pattern.search(text)), -1) for text in texts]

        assert set(range(len(KNOWN_ERRORS))) == set(first) - {-1}

    @pytest.mark.parametrize("text", [text for name, _, text, _, _ in ROWS if name.startswith(("text-only", "vision"))])
    def test_a_model_without_eyes_is_marked(self, text):
        """
        ``details["vision"]`` lets the caller send the description instead.
        """
        assert error_of(raw({"error": text}, 400)).details["vision"] is False

    def test_nothing_loaded_may_be_asked_again_and_says_what_helps(self):
        """
        LM Studio says so wrongly at times, while just-in-time loading is on.
        """
        error = error_of(raw({"error": "No models loaded. Please load a model."}, 404))

        assert classify_error(error).retryable
        assert (
            "http://127.0.0.1:1234 answered with an error (404): No models loaded. Please load a model.;"
            " no model is loaded in LM Studio: load one in the developer page, or turn on just-in-time loading"
        ) == str(error)

    def test_a_wrong_path_leads_to_the_base_url(self):
        """
        LM Studio answers 200 to a wrong path.
        """
        error = error_of(raw({"error": "Unexpected endpoint or method. (POST /chat/completions)"}))

        assert str(error).endswith("; base_url should end in /v1")


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (301, "INVALID_RESPONSE"),
            (304, "INVALID_RESPONSE"),
            (400, "BAD_REQUEST"),
            (401, "UNAUTHORIZED"),
            (403, "UNAUTHORIZED"),
            (404, "BAD_REQUEST"),
            (408, "SERVER_ERROR"),
            (413, "BAD_REQUEST"),
            (422, "BAD_REQUEST"),
            (429, "RATE_LIMIT"),
            (500, "SERVER_ERROR"),
            (502, "SERVER_ERROR"),
            (503, "OVERLOAD"),
            (504, "SERVER_ERROR"),
        ],
    )
    @pytest.mark.parametrize(
        "body", [b"", b"something", {"error": "something"}, {"detail": "something"}, [1]], ids=repr
    )
    def test_an_unknown_text_means_what_the_status_means(self, body, status, code):
        """
        Whatever came as body.
        """
        assert f"ERR_API_{code}" == error_of(raw(body, status)).error_code

    def test_a_plain_status_is_stronger_than_the_text(self):
        """
        429 is a rate limit, also where the text speaks of something else.
        """
        assert ErrorCode.ERR_API_RATE_LIMIT == error_of(raw({"error": "Channel Error"}, 429)).error_code

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"error": "something new"}, "SERVER_ERROR"),
            ({"error": {"message": "something new", "type": "invalid_request_error"}}, "BAD_REQUEST"),
            ({"error": {"message": "something new", "code": 429}}, "RATE_LIMIT"),
            ({"error": {"message": "something new", "code": "503"}}, "OVERLOAD"),
            ({"error": ["something new"]}, "SERVER_ERROR"),
            ({"error": True}, "SERVER_ERROR"),
        ],
    )
    def test_an_unknown_error_with_200(self, body, code):
        """
        The envelope's own status counts, if it gives one.
        """
        assert f"ERR_API_{code}" == error_of(raw(body)).error_code

    def test_an_error_of_null_is_none(self):
        """
        Some servers send the field with every answer.
        """
        assert "A cat." == read_chat(raw(chat(error=None)), "m").text

    def test_a_proxys_page_is_not_quoted(self):
        """
        HTML says nothing in one line, and its texts are not LM Studio's.
        """
        error = error_of(raw(b"<html><h1>model not found</h1>", 502, kind="text/html; charset=utf-8"))

        assert ErrorCode.ERR_API_SERVER_ERROR == error.error_code
        assert "http://127.0.0.1:1234 answered with an error (502): a page (text/html)" == str(error)


class TestRetryAfter:
    def test_travels_with_the_error(self):
        """
        The policy's retry layer finds it on the exception.
        """
        assert 2.0 == error_of(raw({"error": "slow down"}, 429, retry_after="2")).retry_after


class TestDetails:
    def test_hold_status_body_and_model(self):
        """
        Data travels as attributes.
        """
        error = error_of(raw({"error": "what?"}, 400))

        assert {
            "url": "http://127.0.0.1:1234", "status": 400, "body": '{"error": "what?"}', "model": "m",
        } == error.details  # fmt: skip

    def test_the_servers_text_is_bounded_and_harmless(self):
        """
        Nothing in it moves a terminal's cursor, splits a log line or fills a disk.
        """
        error = error_of(raw(b"\x1b[2J\x00one\r\ntwo\xff\xe2\x80\xae" + b"z" * 100_000, 500, kind="text/plain"))

        body = error.details["body"]
        assert body.startswith("[2J one two\ufffd z")
        assert BODY_LENGTH == len(body)
        assert str(error).isprintable()
        assert len(str(error)) < 300

    def test_a_key_that_the_server_echoes_is_cut_out(self):
        """
        Neither message nor details show it.
        """
        error = error_of(raw({"error": "Incorrect key: sk-12345678"}, 401, secrets=("sk-12345678",)))

        assert "sk-12345678" not in f"{error} {error.details}"
        assert "Incorrect key: ***" in str(error)


class TestReadChat:
    def test_a_whole_answer(self):
        """
        The text is stripped; model, reason and counts come along.
        """
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}

        assert ChatReply(
            text="A cat.", model="m", requested_model="m", finish_reason="stop", prompt_tokens=7, completion_tokens=3
        ) == read_chat(raw(chat(" A cat.\n", usage=usage)), "m")

    @pytest.mark.parametrize(
        "usage", [None, [], {}, {"prompt_tokens": "7", "completion_tokens": -1}, {"prompt_tokens": True}]
    )
    def test_counts_that_make_no_sense_are_none(self, usage):
        """
        Nobody fails for a statistic.
        """
        reply = read_chat(raw(chat(usage=usage)), "m")

        assert (None, None) == (reply.prompt_tokens, reply.completion_tokens)

    @pytest.mark.parametrize(
        ("finish_reason", "truncated"), [("stop", False), ("length", True), (None, False), (3, False)]
    )
    def test_a_cut_answer_says_so(self, finish_reason, truncated):
        """
        ``finish_reason: length`` is a cut answer.
        """
        assert truncated is read_chat(raw(chat(finish_reason=finish_reason)), "m").truncated

    @pytest.mark.parametrize(
        ("answered", "requested", "matches"),
        [
            ("qwen", "qwen", True),
            ("lmstudio-community/Qwen", "qwen", True),
            ("qwen:2", "qwen", True),
            ("gemma", "qwen", False),
            ("llama3:8b", "llama3:70b", False),
            (None, "qwen", True),
            ("", "qwen", True),
        ],
    )
    def test_another_model_may_have_answered(self, answered, requested, matches):
        """
        With one model loaded LM Studio may ignore the name that was asked for.
        """
        assert matches is read_chat(raw(chat(model=answered)), requested).model_matches

    @pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
    def test_an_answer_among_the_thoughts_is_taken(self, field):
        """
        Several models put their answer there and leave the content empty.
        """
        reply = read_chat(raw(chat("", message={field: "A cat."})), "m")

        assert ("A cat.", True) == (reply.text, reply.from_reasoning)

    def test_thoughts_that_were_cut_off_are_no_answer(self):
        """
        The model had not come to its answer yet: max_tokens is too small.
        """
        error = error_of(raw(chat("", "length", message={"reasoning_content": "Let me see"})))

        assert ErrorCode.ERR_API_INVALID_RESPONSE == error.error_code
        assert str(error).endswith("raise max_tokens")

    def test_content_is_preferred_to_thoughts(self):
        """
        A model that thought first has still answered.
        """
        assert "A cat." == read_chat(raw(chat(message={"reasoning": "Hm."})), "m").text

    def test_half_an_emoji_is_replaced(self):
        """
        A text cut inside a character can be printed and stored.
        """
        assert "A cat ?" == read_chat(raw(chat("A cat \ud83d")), "m").text

    @pytest.mark.parametrize(
        ("body", "kind", "why"),
        [
            (b"", "application/json", "is empty"),
            (b'{"choices": [{"mess', "application/json", "is not a JSON object, or was cut off"),
            (b"[" * 200_000, "application/json", "is not a JSON object, or was cut off"),
            (b"\xff\xfe\xff", "application/json", "is not a JSON object, or was cut off"),
            (b'{"n": ' + b"9" * 9999 + b"}", "application/json", "is not a JSON object, or was cut off"),
            (b"[1]", "application/json", "is not a JSON object, or was cut off"),
            (b"null", "application/json", "is not a JSON object, or was cut off"),
            (b"<html>", "text/html; charset=utf-8", "is text/html, not JSON; check that base_url ends in /v1"),
            (b"data: {}\n\n", "text/event-stream", "is text/event-stream, not JSON; check that base_url ends in /v1"),
            (b"{}", "application/json", "holds no choices"),
            (b'{"choices": []}', "application/json", "holds no choices"),
            (b'{"choices": null}', "application/json", "holds no choices"),
            (b'{"choices": ["x"]}', "application/json", "holds no choices"),
            (b'{"choices": [{"text": "x"}]}', "application/json", "holds no message"),
            (b'{"choices": [{"message": {}}]}', "application/json", EMPTY),
            (
                b'{"choices": [{"message": {"content": " "}}]}',
                "application/json",
                EMPTY,
            ),
            (
                b'{"choices": [{"message": {"content": 3}}]}',
                "application/json",
                EMPTY,
            ),
        ],
        ids=lambda value: value[:20] if isinstance(value, bytes) else "",
    )
    def test_an_answer_that_makes_no_sense(self, body, kind, why):
        """
        The message says what is missing, or what came instead.
        """
        error = error_of(raw(body, kind=kind))

        assert (ErrorCode.ERR_API_INVALID_RESPONSE, f"the answer of http://127.0.0.1:1234 {why}") == (
            error.error_code,
            str(error),
        )

    def test_json_is_json_whatever_it_is_called(self):
        """
        A server that labels its JSON wrongly is understood all the same.
        """
        assert "A cat." == read_chat(raw(chat(), kind="text/plain"), "m").text


class TestReadModels:
    def test_lists_ids(self):
        """
        In the server's order.
        """
        models = read_models(raw({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}))

        assert ("b", "a") == models.ids
        assert (["b", "a"], 2, True, False) == (list(models), len(models), "a" in models, "c" in models)

    def test_may_be_empty(self):
        """
        With just-in-time loading off and nothing loaded.
        """
        assert () == read_models(raw({"data": []})).ids

    @pytest.mark.parametrize(
        "body", [{}, {"data": None}, {"data": ["a"]}, {"data": [{"id": 3}]}, {"data": [{}]}], ids=str
    )
    def test_what_is_no_list_is_an_error(self, body):
        """
        Rather that than an empty list.
        """
        with pytest.raises(APIError) as caught:
            read_models(raw(body))

        assert ErrorCode.ERR_API_INVALID_RESPONSE == caught.value.error_code
