"""Every fault of the scripted server, through generate(), under the production policy."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from staging import blue, red

from pixel_llm import APIError, CircuitState, EncoderError, ErrorCode, PixelLMError, ValidationError
from pixel_llm.resilience import SYSTEM_CLOCK
from pixel_llm.testing import (
    Answer,
    BrokenStream,
    Crash,
    Drip,
    EmptyChoices,
    ErrorBody,
    Garbage,
    Hang,
    ModelLoad,
    Reset,
    Status,
    Truncated,
    WrongType,
)

Code = ErrorCode
APOLOGY = "Unable to generate caption"
ENVELOPES = ("string", "nested", "nested+message")

#: A log that has prompts and captions, of a model without fallbacks.
FULL = {
    "logging": {"log_content": "full", "file": "all.log"},
    "targets": {"pixel_llm.generate": {"fallback": None}},
}


def contents(made: Any) -> list[Any]:
    """The records of what was asked and answered in the file of :data:`FULL`."""
    assert made.model.policies.log.flush(20)
    records = map(json.loads, Path("all.log").read_text().splitlines())
    return [record for record in records if record["message"] == "content"]


def let_pass(seconds: float) -> Any:
    """While the server is silent, *seconds* pass on the virtual clock."""
    return lambda clock, step: clock.advance(seconds) if isinstance(step, Hang | ModelLoad) else None


TRANSIENT_FAULTS = [
    pytest.param([Hang()], Code.ERR_TIMEOUT_RESPONSE, id="accepts and hangs"),
    pytest.param([Reset(when="before")], Code.ERR_CONN_LOST, id="reset before the response"),
    pytest.param([Reset(when="body")], Code.ERR_CONN_LOST, id="reset in mid-body"),
    pytest.param([Truncated(part="body")], Code.ERR_CONN_LOST, id="closed in mid-body"),
    pytest.param([Truncated(part="json")], Code.ERR_API_INVALID_RESPONSE, id="truncated JSON"),
    pytest.param([Garbage(kind="http")], Code.ERR_API_INVALID_RESPONSE, id="not HTTP"),
    pytest.param([Garbage(kind="json")], Code.ERR_API_INVALID_RESPONSE, id="not JSON"),
    pytest.param([WrongType()], Code.ERR_API_INVALID_RESPONSE, id="wrong content type"),
    pytest.param([EmptyChoices()], Code.ERR_API_INVALID_RESPONSE, id="empty choices"),
    pytest.param([Answer(text="")], Code.ERR_API_INVALID_RESPONSE, id="empty content"),
    *(
        pytest.param([Status(status=500, envelope=envelope)], Code.ERR_API_SERVER_ERROR, id=f"500 {envelope}")
        for envelope in ENVELOPES
    ),
    *(
        pytest.param([Status(status=503, envelope=envelope)], Code.ERR_API_OVERLOAD, id=f"503 {envelope}")
        for envelope in ENVELOPES
    ),
    *(
        pytest.param(
            [ErrorBody(message="Model is unloaded.", envelope=envelope)],
            Code.ERR_API_SERVER_ERROR,
            id=f"200 with an error body {envelope}",
        )
        for envelope in ENVELOPES
    ),
]

PERMANENT_FAULTS = [
    pytest.param(
        Status(status=400, code="model_not_found", message="Invalid model identifier"),
        Code.ERR_API_MODEL_NOT_FOUND,
        id="unknown model",
    ),
    pytest.param(
        Status(status=401, code="invalid_api_key", message="Invalid API key"), Code.ERR_API_UNAUTHORIZED, id="wrong key"
    ),
    pytest.param(
        ErrorBody(message="Context size has been exceeded.", envelope="string"),
        Code.ERR_API_CONTEXT_LENGTH,
        id="context overflow",
    ),
    pytest.param(
        Status(status=400, message="'url' field must be a base64 encoded image.", envelope="string"),
        Code.ERR_API_BAD_REQUEST,
        id="bad image",
    ),
]


class TestTransientFault:
    @pytest.mark.parametrize(("steps", "code"), TRANSIENT_FAULTS)
    def test_once(self, stage, steps, code):
        """One fault is retried after a wait of at most a second, and LM Studio serves."""
        made = stage(*steps, then=Answer(text="A red square."), on_step=let_pass(30))

        result = made.ask()

        assert ("A red square.", "lm_studio", False, 2) == (
            result.text,
            result.served_by,
            result.degraded,
            result.attempts,
        )
        assert [code] == [event.error_code for event in made.events if event.name == "attempt_failed"]
        assert len(made.clock.sleeps) == 1
        assert made.clock.sleeps[0] <= 1.0
        assert (CircuitState.CLOSED, 0) == (made.breaker.state, made.breaker.failures)

    @pytest.mark.parametrize(("steps", "code"), TRANSIENT_FAULTS)
    def test_for_good(self, stage, steps, code):
        """Three attempts, then the default serves and says what it stands in for; the breaker has counted three."""
        made = stage(then=steps[0], on_step=let_pass(30))

        result = made.ask()

        assert (APOLOGY, "default_value", True, 3) == (result.text, result.served_by, result.degraded, result.attempts)
        assert code == result.error_code
        assert 3 == made.times_asked()
        assert 3 == result.error.attempts
        assert [code] * 3 == [record.error_code for record in result.error.history]
        assert (CircuitState.CLOSED, 3) == (made.breaker.state, made.breaker.failures)

    def test_refused(self, stage):
        """A closed port is three refused connections."""
        made = stage()
        made.server.refuse()

        result = made.ask()

        assert ("default_value", 3, Code.ERR_CONN_REFUSED) == (result.served_by, result.attempts, result.error_code)
        assert 3 == made.breaker.failures

    def test_crash_and_come_back(self, stage):
        """A crash, a refused connection, and the server is back for the third attempt."""
        calm = {"targets": {"lm_studio.chat": {"retry": {"initial_delay": "300ms", "jitter": "none"}}}}
        made = stage(Crash(down=0.5), Answer(text="Back."), clock=SYSTEM_CLOCK, overrides=calm)

        result = made.ask()

        assert ("Back.", 3) == (result.text, result.attempts)
        assert [Code.ERR_CONN_LOST, Code.ERR_CONN_REFUSED] == [
            event.error_code for event in made.events if event.name == "attempt_failed"
        ]

    def test_slow_model_load(self, stage):
        """A model that loads for 20 s is waited for: an attempt has 30."""
        made = stage(ModelLoad(seconds=0.1, text="Loaded."), on_step=let_pass(20))

        result = made.ask()

        assert ("Loaded.", 1) == (result.text, result.attempts)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("status", "failures"),
        [pytest.param(503, 1, id="503 counts"), pytest.param(429, 0, id="429 is neutral to the breaker")],
    )
    def test_is_a_floor(self, stage, status, failures):
        """The wait is what the server asks for and at most a second of jitter on top."""
        made = stage(Status(status=status, retry_after=7))
        counted = []
        made.model.policies.add_listener(lambda event: counted.append(made.breaker.failures))

        result = made.ask()

        assert ("lm_studio", 2) == (result.served_by, result.attempts)
        assert 7 <= made.clock.sleeps[0] <= 8
        assert failures == counted[0]

    def test_beyond_what_the_policy_waits_for(self, stage):
        """A server that asks for ten minutes fails the call at once; the error carries what it asked for."""
        made = stage(Status(status=429, retry_after=600))

        result = made.ask()

        assert ("default_value", 1, 600) == (result.served_by, result.attempts, result.error.retry_after)
        assert [] == made.clock.sleeps


class TestPermanentFault:
    @pytest.mark.parametrize(("step", "code"), PERMANENT_FAULTS)
    def test_is_raised(self, stage, step, code):
        """What trying again can't mend is asked once, passes the fallback and leaves the breaker alone."""
        made = stage(then=step)

        with pytest.raises(PixelLMError) as caught:
            made.ask()

        assert (code, 1, "lm_studio.chat") == (caught.value.error_code, caught.value.attempts, caught.value.target)
        assert 1 == made.times_asked()
        assert 0 == made.breaker.failures

    def test_wrong_path(self, stage):
        """A base_url without /v1 is answered with 200 and an error; the message says what is missing."""
        short = stage().server.base_url.removesuffix("/v1")
        made = stage(overrides={"lm_studio": {"base_url": short}})

        with pytest.raises(PixelLMError, match="/v1"):
            made.ask()


class TestDeadline:
    @pytest.mark.parametrize("part", ["headers", "body"])
    def test_dripping_server_cannot_outlive_it(self, stage, part):
        """A byte every 50 ms keeps every read short; the call still ends at its deadline, and counts once."""
        deadline = {"targets": {"lm_studio.chat": {"deadline": "1s"}}}
        made = stage(then=Drip(part=part, interval=0.05), clock=SYSTEM_CLOCK, overrides=deadline)

        result = made.ask(red())

        failed = [event for event in made.events if event.name == "call_failed" and event.target == "lm_studio.chat"]
        assert Code.ERR_TIMEOUT_DEADLINE == result.error_code
        assert 1.0 <= failed[0].elapsed <= 1.3
        assert ("default_value", 1, 1) == (result.served_by, result.attempts, made.breaker.failures)

    def test_of_generate_holds_for_the_chat_inside(self, stage):
        """What is left of generate()'s deadline bounds the chat, although that one has 120 s of its own."""
        tight = {"targets": {"pixel_llm.generate": {"deadline": "700ms"}}}
        made = stage(then=Hang(), clock=SYSTEM_CLOCK, overrides=tight)
        made.model.load()

        started = time.monotonic()
        result = made.ask()
        elapsed = time.monotonic() - started

        assert ("default_value", Code.ERR_TIMEOUT_DEADLINE) == (result.served_by, result.error_code)
        assert elapsed < 1.3
        assert 0 == made.breaker.failures  # cut by a caller's deadline: that says nothing of the server


class TestBreaker:
    def test_life(self, stage):
        """Five failures open it, it refuses for 60 s, then two trials close it."""
        made = stage(then=Status(status=500))
        made.ask()
        assert (CircuitState.CLOSED, 3) == (made.breaker.state, made.breaker.failures)

        result = made.ask()

        assert CircuitState.OPEN is made.breaker.state
        assert ("default_value", 2, 5) == (result.served_by, result.attempts, made.times_asked())

        result = made.ask()

        assert ("default_value", 0, Code.ERR_CB_OPEN) == (result.served_by, result.attempts, result.error_code)
        assert 5 == made.times_asked()

        made.clock.advance(60)
        made.server.extend([Answer(text="First."), Answer(text="Second.")])

        assert "First." == made.ask().text
        assert CircuitState.HALF_OPEN is made.breaker.state
        assert "Second." == made.ask().text
        assert CircuitState.CLOSED is made.breaker.state

    def test_failed_trial_opens_it_again(self, stage):
        """One failed trial is enough, and starts a new cooldown; it is not retried."""
        made = stage(then=Status(status=500))
        made.ask()
        made.ask()
        made.clock.advance(60)

        result = made.ask()

        assert (CircuitState.OPEN, 1) == (made.breaker.state, result.attempts)
        assert 6 == made.times_asked()
        assert pytest.approx(60, abs=0.1) == made.breaker.retry_after()


class TestFallback:
    def test_cache_serves_the_same_request_only(self, stage):
        """A picture seen before is served from the cache, another picture or another prompt is not."""
        made = stage(Answer(text="A red square."), then=Status(status=500))
        made.ask(red())
        made.clock.advance(3000)

        assert ("A red square.", "cache") == (made.ask(red()).text, made.ask(red()).served_by)
        assert "default_value" == made.ask(blue()).served_by
        assert "default_value" == made.ask(red(), "What colour?").served_by

    def test_cache_is_never_served_past_its_ttl(self, stage):
        """After an hour the cached caption is too old."""
        made = stage(Answer(text="A red square."), then=Status(status=500))
        made.ask()
        made.clock.advance(3601)

        assert "default_value" == made.ask().served_by

    def test_cache_is_not_read_while_the_server_answers(self, stage):
        """The fallback's cache is no cache in front: the server is asked each time."""
        made = stage(Answer(text="One."), Answer(text="Two."))

        assert ["One.", "Two."] == [made.ask().text, made.ask().text]

    def test_truncated_answer_is_not_kept(self, stage):
        """A caption that was cut short is given back as such, and never served again later."""
        made = stage(Answer(text="A red squ", finish_reason="length"), then=Status(status=500))

        assert made.ask().truncated
        assert "default_value" == made.ask().served_by

    def test_fallback_of_the_chat_itself_shows(self, stage):
        """If the chat's own fallback served, the result says so, and generate() does not keep it."""
        own = {"targets": {"lm_studio.chat": {"fallback": [{"default_value": "No idea."}]}}}
        made = stage(then=Status(status=500), overrides=own)

        result = made.ask()

        assert ("No idea.", "default_value", True) == (result.text, result.served_by, result.degraded)
        assert Code.ERR_API_SERVER_ERROR == result.error_code


class TestOtherProfiles:
    @pytest.mark.parametrize(
        ("profile", "attempts"),
        [("basic", 3), ("development", 1), ("high-throughput", 5), ("low-latency", 1)],
    )
    def test_attempts_and_error(self, stage, profile, attempts):
        """A profile without a default value raises the last error itself, after as many attempts as it says."""
        made = stage(then=Status(status=500), profile=profile)

        with pytest.raises(PixelLMError) as caught:
            made.ask()

        assert (Code.ERR_API_SERVER_ERROR, attempts) == (caught.value.error_code, caught.value.attempts)
        assert attempts == made.times_asked()


class TestAnotherModel:
    def test_that_answers_is_told_once(self, stage):
        """LM Studio may answer with what is loaded, whatever was asked for: an event says so."""
        made = stage(then=Answer(text="Red.", model="something-else"))
        made.ask()
        made.ask(blue())

        (event,) = [event for event in made.events if event.name == "model_mismatched"]
        assert "something-else" == event.answered


class TestLog:
    def test_is_where_production_says(self, stage):
        """What went wrong is in logs/pixel_llm.log, one JSON object a line, without prompt, picture or caption."""
        made = stage(Status(status=503), Answer(text="A-secret-caption"))
        made.ask(prompt="A-secret-prompt")
        made.model.policies.log.flush()

        text = Path("logs/pixel_llm.log").read_text()

        messages = [json.loads(line)["message"] for line in text.splitlines()]
        assert ["attempt_failed", "retry_scheduled", "call_recovered"] == messages
        assert "secret" not in text

    def test_says_nothing_of_a_success(self, stage):
        """A clean success leaves no record."""
        made = stage(Answer())
        made.ask()
        made.model.policies.log.flush()

        assert not Path("logs/pixel_llm.log").exists()

    def test_holds_prompt_and_caption_only_if_the_policy_says_so(self, stage):
        """With `log_content: full` each prompt and its caption is a record, of a success too; the picture never is."""
        made = stage(Answer(text="A red square."), overrides={"logging": {"log_content": "full", "file": "all.log"}})
        made.ask(prompt="What is it?")
        made.model.policies.log.flush()

        (line,) = Path("all.log").read_text().splitlines()
        record = json.loads(line)
        assert ("content", None, {"prompt": "What is it?", "caption": "A red square."}) == (
            record["message"],
            record["error_code"],
            record["extra"],
        )

    @pytest.mark.parametrize("way", ["alone", "batch", "stream"])
    def test_holds_the_prompt_of_a_call_that_failed(self, stage, way):
        """The prompt that came to nothing is the one that is looked for: it is there with the code of the error."""
        made = stage(then=Status(status=401), overrides=FULL)
        ask = {
            "alone": lambda: made.ask(prompt="What is it?"),
            "batch": lambda: made.batch([red()], prompt="What is it?")[0].unwrap(),
            "stream": lambda: made.stream(prompt="What is it?"),
        }
        with pytest.raises(APIError) as caught:
            ask[way]()

        (record,) = contents(made)
        assert ("ERR_API_UNAUTHORIZED", "pixel_llm.errors.exceptions.APIError", {"prompt": "What is it?"}) == (
            record["error_code"],
            record["exception_type"],
            record["extra"],
        )
        assert caught.value.request_id == record["context"]["request_id"]

    @pytest.mark.parametrize("how", ["reset", "truncated"])
    def test_holds_what_had_come_of_a_stream_that_broke(self, stage, how):
        """The half of a caption that its reader has seen is there beside the prompt."""
        made = stage(then=BrokenStream(text="A red square", chunks=2, how=how), overrides=FULL)
        with pytest.raises(ConnectionError):
            made.stream(prompt="What is it?")

        (record,) = contents(made)
        assert ("ERR_CONN_LOST", "What is it?") == (record["error_code"], record["extra"]["prompt"])
        assert record["extra"]["caption"].startswith("A red")

    def test_holds_the_prompt_of_a_picture_that_is_none(self, stage, world):
        """Also where nobody was asked, since the picture could not be read."""
        made = stage(overrides=FULL)
        with pytest.raises(EncoderError):
            made.ask(b"no picture", prompt="What is it?")
        with pytest.raises(EncoderError):
            made.stream(b"no picture", prompt="What is it?")

        assert [("ERR_ENC_INVALID_INPUT", {"prompt": "What is it?"})] * 2 == [
            (record["error_code"], record["extra"]) for record in contents(made)
        ]
        assert 2 == made.model.get_error_metrics()["failed_requests"]

    def test_redacted_holds_no_prompt_of_a_failure(self, stage):
        """Without it nothing of what was asked is there, as before."""
        made = stage(then=Status(status=401), overrides={"logging": {"file": "all.log"}})
        with pytest.raises(APIError):
            made.ask(prompt="What is it?")

        assert [] == contents(made)
        assert "What is it?" not in Path("all.log").read_text()


class TestInput:
    def test_an_array_that_could_mean_anything(self, stage):
        """
        What an array means is said where pictures are made of arrays; the error says where that is.
        """
        with pytest.raises(ValidationError, match='say layout="chw" or "hwc"') as caught:
            stage().ask(np.zeros((3, 4, 3), np.uint8))

        assert any("load_image() takes layout=" in note for note in caught.value.__notes__)
