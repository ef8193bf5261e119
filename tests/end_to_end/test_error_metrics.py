"""What a model tells of its calls, and what it is built from."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from conftest import red
from PIL import Image

from pixel_llm import HybridPixelLLM, PixelLMError, ValidationError, load_policies
from pixel_llm.testing import ErrorBody, ScriptedLMStudio, Status


class TestErrorMetrics:
    def test_each_way_to_end(self, stage):
        """
        A caption, a caption of the fallback's, an error, and an image that can't be read: each is counted once.
        """
        made = stage(then=Status(status=500))
        made.ask()

        with pytest.raises(PixelLMError):
            made.ask("missing.png")

        metrics = made.model.get_error_metrics()
        assert {
            "total_requests": 2,
            "successful_requests": 1,
            "degraded_requests": 1,
            "failed_requests": 1,
            "success_rate": 0.5,
            "error_counts": {"ERR_API_SERVER_ERROR": 1, "ERR_VAL_MISSING_FIELD": 1},
            "circuit_breaker_state": "closed",
        } == metrics

    def test_permanent_error(self, stage):
        """
        What passes the fallback has failed.
        """
        made = stage(then=ErrorBody(message="Context size has been exceeded.", envelope="string"))

        with pytest.raises(PixelLMError):
            made.ask()

        metrics = made.model.get_error_metrics()
        assert (1, 0, {"ERR_API_CONTEXT_LENGTH": 1}) == (
            metrics["failed_requests"],
            metrics["successful_requests"],
            metrics["error_counts"],
        )

    def test_before_the_first_call(self, stage):
        """
        Nothing has failed yet.
        """
        assert (0, 1.0) == tuple(stage().model.get_error_metrics()[key] for key in ("total_requests", "success_rate"))

    def test_reset(self, stage):
        """
        Counting begins anew; breakers stay as they are.
        """
        made = stage(then=Status(status=500))
        made.ask()
        made.model.reset_metrics()

        metrics = made.model.get_error_metrics()

        assert (0, {}) == (metrics["total_requests"], metrics["error_counts"])
        assert 3 == made.breaker.failures

    def test_breaker_states(self, stage):
        """
        A breaker for each key is told by its key; without one there is none to tell.
        """
        keyed = stage(overrides={"targets": {"lm_studio.chat": {"circuit_breaker": {"per": "model"}}}})
        keyed.ask()
        bare = stage(profile="development")

        assert {"qwen2.5-vl-7b-instruct": "closed"} == keyed.model.get_error_metrics()["circuit_breaker_state"]
        assert bare.model.get_error_metrics()["circuit_breaker_state"] is None


ELSEWHERE = """
import pickle, sys
from pixel_llm import HybridPixelLLM
with HybridPixelLLM.from_config(pickle.load(sys.stdin.buffer)) as model:
    sys.stdout.buffer.write(pickle.dumps(model.generate("red.png")))
"""


class TestConfig:
    def test_builds_the_same_model_in_another_process(self, tmp_path, monkeypatch):
        """
        A model's config pickles, and its results come back whole.
        """
        monkeypatch.chdir(tmp_path)
        Image.fromarray(red()).save("red.png")
        with (
            ScriptedLMStudio() as server,
            HybridPixelLLM("production", error_config={"lm_studio": {"base_url": server.base_url}}) as model,
        ):
            here, config = model.generate("red.png"), pickle.dumps(model.config)
            done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=config, capture_output=True, check=True)

        there = pickle.loads(done.stdout)
        assert (here.text, here.served_by, here.model) == (there.text, there.served_by, there.model)

    def test_a_model_itself_does_not_pickle(self):
        """
        It holds sockets; the message says what to pickle in its place.
        """
        with HybridPixelLLM("basic") as model, pytest.raises(TypeError, match="pickle its config"):
            pickle.dumps(model)

    def test_none_of_loaded_policies(self):
        """
        Policies that were loaded by somebody else don't say where they came from.
        """
        with load_policies(profile="basic") as policies, pytest.raises(ValidationError, match="profile's name"):
            HybridPixelLLM(policies=policies).config  # noqa: B018 - reading it raises
