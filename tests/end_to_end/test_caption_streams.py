"""Captions that are read while they are written, through the production policy and a scripted LM Studio."""

from __future__ import annotations

import asyncio
import threading

import pytest
from staging import blue, red

from pixel_llm import CircuitState, ErrorCode, HybridPixelLLM, PixelLMError, ValidationError
from pixel_llm.testing import Answer, BrokenStream, ScriptedLMStudio, Status

APOLOGY = "Unable to generate caption"


class TestStream:
    def test_pieces_make_the_caption(self, stage):
        """
        The pieces come one by one; joined they are the caption, and the result says who served.
        """
        made = stage(Answer(text="A red square on red."))

        pieces, stream = made.stream()

        assert len(pieces) > 1
        assert "A red square on red." == "".join(pieces) == stream.text == stream.result.text
        assert ("lm_studio", False, 1, False) == (
            stream.result.served_by,
            stream.result.degraded,
            stream.result.attempts,
            stream.result.truncated,
        )
        assert made.model.client is not None
        assert stream.result.model == made.model.policies.config.lm_studio.model

    def test_retried_before_the_first_piece(self, stage):
        """
        A server that fails before it has said anything is asked again.
        """
        made = stage(Status(status=503), Answer(text="Here it is."))

        pieces, stream = made.stream()

        assert ("Here it is.", 2) == ("".join(pieces), stream.result.attempts)

    def test_broken_after_the_first_piece(self, stage):
        """
        What has been read can't be taken back: the error is raised as it is, with what had arrived, and counts once.
        """
        made = stage(then=BrokenStream(text="A red square", chunks=2, how="truncated"))

        with pytest.raises(PixelLMError) as caught:
            made.stream()

        assert ErrorCode.ERR_CONN_LOST == caught.value.error_code
        assert caught.value.arrived is not None
        assert 1 == made.times_asked()
        assert (1, CircuitState.CLOSED) == (made.breaker.failures, made.breaker.state)
        assert {"ERR_CONN_LOST": 1} == made.model.get_error_metrics()["error_counts"]

    def test_fallback_serves_before_the_first_piece(self, stage):
        """
        The default value is a stream of one piece, and the result says what it stands in for.
        """
        made = stage(then=Status(status=500))

        pieces, stream = made.stream()

        assert [APOLOGY] == pieces
        assert ("default_value", True, 3, ErrorCode.ERR_API_SERVER_ERROR) == (
            stream.result.served_by,
            stream.result.degraded,
            stream.result.attempts,
            stream.result.error_code,
        )

    def test_cache_serves_what_a_plain_call_brought(self, stage):
        """
        Streams and plain calls share the fallback's cache, either way.
        """
        made = stage(Answer(text="A red square."), Answer(text="A blue one."), then=Status(status=500))
        made.ask(red())
        made.stream(blue())

        pieces, stream = made.stream(red())
        result = made.ask(blue())

        assert ("A red square.", "cache") == ("".join(pieces), stream.result.served_by)
        assert ("A blue one.", "cache") == (result.text, result.served_by)

    def test_truncated_stream_is_not_kept(self, stage):
        """
        A caption that ran into its limit says so, and is not served again later.
        """
        made = stage(Answer(text="A red squ", finish_reason="length"), then=Status(status=500))

        _, stream = made.stream()

        assert stream.result.truncated
        assert [APOLOGY] == made.stream()[0]

    def test_fallback_of_the_chat_itself_shows(self, stage):
        """
        If the chat's own fallback served, the result says so, and nothing of it is kept.
        """
        own = {"targets": {"lm_studio.chat": {"fallback": [{"default_value": "No idea."}]}}}
        made = stage(then=Status(status=500), overrides=own)

        pieces, stream = made.stream()

        assert (["No idea."], "default_value", True) == (pieces, stream.result.served_by, stream.result.degraded)
        assert "default_value" == made.stream()[1].result.served_by

    def test_counts_when_it_has_ended(self, stage):
        """
        A stream is a request of the model's, like any other.
        """
        made = stage()
        made.stream()
        made.stream()

        metrics = made.model.get_error_metrics()

        assert (2, 2, 1.0) == (metrics["total_requests"], metrics["successful_requests"], metrics["success_rate"])

    def test_bad_image(self, stage):
        """
        An image that can't be read is said before anybody is asked.
        """
        made = stage()

        with pytest.raises(ValidationError, match="no such file"):
            made.stream("missing.png")

        assert 0 == made.times_asked()


class TestClosing:
    def test_in_mid_stream(self, tmp_path, monkeypatch):
        """
        Whoever has read enough closes it: the server is let go, and that is neither success nor failure.
        """
        monkeypatch.chdir(tmp_path)
        with ScriptedLMStudio(then=Answer(text="one two three four five")) as server:
            config = {"lm_studio": {"base_url": server.base_url}}
            with HybridPixelLLM("production", error_config=config) as model:
                with model.stream(red()) as stream:
                    first = next(stream)
                    assert first == stream.text == stream.result.text

                assert [] == list(stream)
                assert 0 == model.policies.breaker("lm_studio.chat").failures
                assert 0 == model.get_error_metrics()["total_requests"]

    def test_async_without_a_read(self, tmp_path, monkeypatch):
        """
        A stream that nobody reads asks nobody, and has no result.
        """
        monkeypatch.chdir(tmp_path)

        async def main(model: HybridPixelLLM) -> None:
            stream = model.stream_async(red())
            with pytest.raises(RuntimeError, match="nothing has been read"):
                stream.result  # noqa: B018 - reading it raises
            await stream.aclose()
            assert [] == [piece async for piece in stream]

        with ScriptedLMStudio() as server:
            config = {"lm_studio": {"base_url": server.base_url}}
            with HybridPixelLLM("production", error_config=config) as model:
                asyncio.run(main(model))
            assert () == server.requests

    def test_from_another_thread(self, tmp_path, monkeypatch):
        """
        Any thread may close it.
        """
        monkeypatch.chdir(tmp_path)
        with ScriptedLMStudio(then=Answer(text="one two three")) as server:
            config = {"lm_studio": {"base_url": server.base_url}}
            with HybridPixelLLM("production", error_config=config) as model:
                stream = model.stream(red())
                next(stream)
                closing = threading.Thread(target=stream.close)
                closing.start()
                closing.join()

                assert [] == list(stream)
