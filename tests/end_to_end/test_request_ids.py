"""One id follows a request: to the server, into results, errors and log records."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
from pathlib import Path

import pytest
from staging import blue, red

from pixel_llm import LogContext, PixelLMError, ValidationError, current_request_id, set_context
from pixel_llm.lm_studio import ChatRequest
from pixel_llm.testing import Answer, BrokenStream, Status

GIVEN = "web-7"


def sent(stage):
    """The ids that the server got, one for each request."""
    return [request.headers.get("x-request-id") for request in stage.server.requests]


def logged(stage, name="logs/pixel_llm.log"):
    """The ids in the log, each once, in order."""
    stage.model.policies.log.flush()
    records = [json.loads(line) for line in Path(name).read_text().splitlines()]
    return list(dict.fromkeys(record["context"].get("request_id") for record in records))


class TestGenerate:
    def test_has_an_id_of_its_own(self, stage):
        """
        Each request gets a fresh id, which all its attempts, its records and its result have.
        """
        made = stage(Status(status=503), Answer(), Status(status=503), Answer())
        first, second = made.ask(), made.ask(blue())

        assert re.fullmatch(r"[0-9a-f]{16}", first.request_id)
        assert first.request_id != second.request_id
        assert [first.request_id] * 2 + [second.request_id] * 2 == sent(made)
        assert [first.request_id, second.request_id] == logged(made)
        assert current_request_id() is None

    def test_takes_the_program_s(self, stage):
        """
        Inside a request of a web framework's, the id is that one's.
        """
        made = stage(Answer())
        with LogContext(request_id=GIVEN):
            result = made.ask()

        assert (GIVEN, [GIVEN]) == (result.request_id, sent(made))

    def test_errors_have_it(self, stage):
        """
        What is raised, and what a fallback stands in for, says which request it was, across processes too.
        """
        made = stage(then=Status(status=401), profile="basic")
        with LogContext(request_id=GIVEN), pytest.raises(PixelLMError) as caught:
            made.ask()
        with LogContext(request_id=GIVEN), pytest.raises(ValidationError) as invalid:
            made.ask(prompt=" ")

        assert GIVEN == caught.value.request_id == invalid.value.request_id
        assert GIVEN == pickle.loads(pickle.dumps(caught.value)).request_id

    def test_a_refusal_of_the_breaker_has_it(self, stage):
        """
        So has the refusal of a breaker, which a fallback stands in for.
        """
        made = stage(then=Status(status=500))
        results = [made.ask() for _ in range(3)]
        refused = results[-1]

        assert "default_value" == refused.served_by
        assert refused.request_id == refused.error.request_id
        assert 3 == len({result.request_id for result in results})

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("a b\r\nX-Evil: 1", "a_b__X-Evil:_1"),
            ("Grüße", "Gr__e"),
            ("x" * 1000, "x" * 128),
            (12345, "12345"),
            ("\x1b[31m", "__31m"),
        ],
        ids=ascii,
    )
    def test_is_made_harmless(self, stage, given, expected):
        """
        An id that came from outside can neither forge a header nor be endless.
        """
        made = stage(Answer())
        with LogContext(request_id=given):
            result = made.ask()

        assert (expected, [expected]) == (result.request_id, sent(made))

    @pytest.mark.parametrize("given", ["", None])
    def test_without_a_usable_one_is_fresh(self, stage, given):
        """
        Nothing is no id.
        """
        made = stage(Answer())
        set_context(request_id=given)
        result = made.ask()

        assert 16 == len(result.request_id)


class TestStream:
    def test_has_an_id(self, stage):
        """
        A stream's id is there from its first request to its result, and not left with its reader.
        """
        made = stage(Status(status=503), Answer(text="A red square."))
        _, stream = made.stream()

        assert [stream.result.request_id] * 2 == sent(made)
        assert [stream.result.request_id] == logged(made)
        assert current_request_id() is None

    def test_keeps_the_program_s(self, stage, world):
        """
        The id is that of the moment when the stream was made, whoever reads it later.
        """
        if world == "async":
            pytest.skip("the same line of code")
        made = stage(Answer(text="A red square."))
        with LogContext(request_id=GIVEN):
            stream = made.model.stream(red())
        with LogContext(request_id="another"):
            "".join(stream)

        assert (GIVEN, [GIVEN]) == (stream.result.request_id, sent(made))

    def test_errors_have_it(self, stage):
        """
        So has the error of a stream that broke.
        """
        made = stage(then=BrokenStream(text="A red square", chunks=2, how="truncated"))
        with LogContext(request_id=GIVEN), pytest.raises(PixelLMError) as caught:
            made.stream()

        assert GIVEN == caught.value.request_id


class TestBatch:
    def test_has_one_for_each_picture(self, stage, tmp_path):
        """
        The id of each picture is the batch's with its index, whether it got a caption or an error.
        """
        made = stage(Answer(), Answer())
        with LogContext(request_id=GIVEN):
            items = made.batch([red(), tmp_path / "missing.jpg", blue()], jobs=1)

        assert [f"{GIVEN}.0", f"{GIVEN}.1", f"{GIVEN}.2"] == [(item.result or item.error).request_id for item in items]
        assert {f"{GIVEN}.0", f"{GIVEN}.2"} == set(sent(made))

    def test_without_one_makes_one_for_all(self, stage):
        """
        Without the program's, the pictures of a batch have a fresh one in common.
        """
        made = stage(Answer(), Answer())
        ids = [item.unwrap().request_id for item in made.batch([red(), blue()])]
        common = ids[0].removesuffix(".0")

        assert [f"{common}.0", f"{common}.1"] == ids

    def test_is_bounded_too(self, stage):
        """
        The index is never what is cut.
        """
        made = stage(Answer())
        with LogContext(request_id="x" * 200):
            (item,) = made.batch([red()])

        assert "x" * 126 + ".0" == item.unwrap().request_id


class TestTasks:
    def test_do_not_mix(self, stage, world):
        """
        Requests that are under way at once keep their ids apart.
        """
        if world == "sync":
            pytest.skip("needs an event loop")
        made = stage(then=Answer())

        async def ask(number):
            set_context(request_id=f"task-{number}")
            return (await made.model.generate_async(red() + number)).request_id

        async def main():
            return await asyncio.gather(*map(ask, range(8)))

        expected = [f"task-{number}" for number in range(8)]

        assert expected == asyncio.run(main())
        assert expected == sorted(sent(made))


class TestClient:
    def test_sends_none_of_its_own(self, stage):
        """
        The client by itself sends the id that there is, or none.
        """
        made = stage(then=Answer())
        request = ChatRequest(model="m", prompt="Hello?")
        made.model.client.chat(request)
        with LogContext(request_id=GIVEN):
            made.model.client.chat(request)
            made.model.client.models()

        assert [None, GIVEN, GIVEN] == sent(made)
