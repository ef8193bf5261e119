"""The steps of a script, as data."""

from __future__ import annotations

import inspect
import math
import pickle

import pytest

import pixel_llm.testing
from pixel_llm.errors import ValidationError
from pixel_llm.testing import (
    Answer,
    Crash,
    Drip,
    ErrorBody,
    Hang,
    ModelLoad,
    RecordedRequest,
    Refuse,
    Status,
    Step,
    WrongType,
)
from pixel_llm.testing.steps import STEP_TYPES, describe_step
from pixel_llm.testing.wire import render

REQUEST = RecordedRequest(method="POST", path="/", headers={}, body=b"", step=Hang())


class TestStep:
    @pytest.mark.parametrize("step_type", STEP_TYPES.values())
    def test_contract(self, step_type):
        """
        Every step can be made without arguments, is frozen, hashable, picklable and described.
        """
        step = step_type()

        assert step == pickle.loads(pickle.dumps(step))
        assert hash(step) == hash(step_type())
        assert not hasattr(step, "__dict__")
        assert inspect.getdoc(step_type)

    @pytest.mark.parametrize("step_type", [cls for cls in STEP_TYPES.values() if cls is not Refuse])
    def test_every_step_has_bytes(self, step_type):
        """
        Every step that answers requests is known to the wire.
        """
        assert render(step_type(), REQUEST).ending in ("keep", "close", "reset")

    @pytest.mark.parametrize(
        ("step_type", "fields", "expected"),
        [
            (Status, {"status": 99}, "Status.status must be a whole number from 200 to 599 (got 99)"),
            (Status, {"status": True}, "Status.status must be a whole number from 200 to 599 (got True)"),
            (Status, {"retry_after": []}, "Status.retry_after must be a number or text (got [])"),
            (Status, {"envelope": "x"}, "Status.envelope must be one of string, nested, nested+message (got 'x')"),
            (ErrorBody, {"envelope": "string", "code": "x"}, "type and code need envelope 'nested' (got 'string')"),
            (WrongType, {"status": "200"}, "WrongType.status must be a whole number from 200 to 599 (got '200')"),
            (Answer, {"text": 5}, "Answer.text must be text (got 5)"),
            (Crash, {"down": -1}, "Crash.down must be from 0 to 86400 seconds (got -1)"),
            (Refuse, {"seconds": math.inf}, "Refuse.seconds must be from 0 to 86400 seconds (got inf)"),
            (ModelLoad, {"seconds": math.nan}, "ModelLoad.seconds must be from 0 to 86400 seconds (got nan)"),
            (Hang, {"path": "v1"}, "path must start with / (got 'v1')"),
        ],
    )  # fmt: skip
    def test_wrong_fields(self, step_type, fields, expected):
        """
        A step that no server could act on cannot be made.
        """
        with pytest.raises(ValidationError) as caught:
            step_type(**fields)

        assert expected == str(caught.value)


class TestDescribeStep:
    @pytest.mark.parametrize(
        ("step", "expected"),
        [
            (Hang(), "hang"),
            (Status(status=503, retry_after=2), "status 503 (retry_after 2)"),
            (ModelLoad(seconds=0.2, text="A\ncat."), "model load (text A cat., seconds 200ms)"),
            (Drip(part="headers", path="/v1/models"), "drip (part headers)"),
            (Answer(text="x" * 100), f"answer (text {'x' * 59}…)"),
        ],
    )
    def test_words(self, step: Step, expected):
        """
        A step is described by its name and by what differs from the defaults.
        """
        assert expected == describe_step(step)


class TestExports:
    def test_all_is_what_is_there(self):
        """
        The package exports what it says, sorted, and every step of the scripts.
        """
        exported = pixel_llm.testing.__all__

        assert sorted(exported) == list(exported)
        assert all(hasattr(pixel_llm.testing, name) for name in exported)
        assert {cls.__name__ for cls in STEP_TYPES.values()} <= set(exported)
