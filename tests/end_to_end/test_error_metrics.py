"""What a model tells of its calls, and what it is built from."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import MappingProxyType

import pytest
from PIL import Image
from staging import red

from pixel_llm import HybridPixelLLM, PixelLMError, ValidationError, load_policies
from pixel_llm.hybrid import HybridConfig
from pixel_llm.testing import ErrorBody, ScriptedLMStudio, Status, VirtualClock


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
            "endpoint_errors": {},
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

    def test_is_a_copy(self):
        """
        What the caller changes afterwards shows nowhere; any kind of mapping pickles.
        """
        given = {"lm_studio": {"base_url": "http://127.0.0.1:9/v1"}, "targets": MappingProxyType({})}
        with HybridPixelLLM("basic", error_config=MappingProxyType(given)) as model:
            given["lm_studio"]["base_url"] = "http://elsewhere/v1"

            there = pickle.loads(pickle.dumps(model.config))
            assert there == model.config
            assert {"lm_studio": {"base_url": "http://127.0.0.1:9/v1"}, "targets": {}} == there.error_config

    def test_repr_shows_no_secret(self):
        """
        A key that was given in code is in no log of the config; the other process gets it all the same.
        """
        servers = [{"base_url": "http://me:hush@lm.example/v1", "api_key": "sk-2"}, {"base_url": "http://b/v1"}]
        config = HybridConfig(profile="basic", error_config={"lm_studio": {"api_key": "sk-1", "endpoints": servers}})

        assert (
            "HybridConfig(profile='basic', policies=None, error_config={'lm_studio': {'api_key': '***', 'endpoints': "
            "[{'base_url': 'http://***@lm.example/v1', 'api_key': '***'}, {'base_url': 'http://b/v1'}]}})"
        ) == repr(config)
        assert "sk-1" == pickle.loads(pickle.dumps(config)).error_config["lm_studio"]["api_key"]


class TestArguments:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"profile": 3}, r"profile must be the name of a profile \(got int\)"),
            ({"policies": 3}, r"policies must be a folder of policies, or loaded ones \(got int\)"),
            ({"error_config": "x"}, r"error_config must be a mapping of policy sections \(got str\)"),
            ({"listeners": None}, r"listeners must be a list of functions \(got NoneType\)"),
        ],
        ids=str,
    )
    def test_of_the_wrong_kind(self, wrong, message):
        """
        What can't be meant is said before any policy is read.
        """
        with pytest.raises(ValidationError, match=message):
            HybridPixelLLM(**wrong)

    @pytest.mark.parametrize(
        "given",
        [{"profile": "basic"}, {"error_config": {}}, {"clock": VirtualClock()}, {"listeners": [print]}],
        ids=lambda given: next(iter(given)),
    )
    def test_that_loaded_policies_say_themselves(self, given):
        """
        What would have no effect is refused: nobody is left waiting for events that never come.
        """
        (name,) = given
        with (
            load_policies(profile="basic") as policies,
            pytest.raises(ValidationError, match=rf"have their own {name}: give it to load_policies\(\)"),
        ):
            HybridPixelLLM(policies=policies, **given)
