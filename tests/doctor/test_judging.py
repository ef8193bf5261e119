"""What facts amount to: the checks' pure halves."""

from __future__ import annotations

import pytest

from pixel_llm.doctor.findings import Outcome, failure_of
from pixel_llm.doctor.models import judge_context, judge_loaded, judge_model, state_of
from pixel_llm.doctor.policies import judge_problems
from pixel_llm.errors import Place, Problem, ProblemSeverity
from pixel_llm.lm_studio import ModelState


def state(name: str = "gemma", *, loaded: bool = False) -> ModelState:
    return ModelState(name, "vlm", loaded)


class TestJudgeModel:
    @pytest.mark.parametrize(
        ("listed", "states", "outcome"),
        [
            pytest.param(["google/gemma:2"], None, "ok", id="another way to write it"),
            pytest.param([], [state()], "ok", id="downloaded, not listed"),
            pytest.param([], [], "failed", id="nothing there"),
            pytest.param(["qwen"], [state("qwen")], "failed", id="another one"),
            pytest.param(["qwen"], None, "warning", id="another one, on a server that may not care"),
        ],
    )
    def test_outcome(self, listed, states, outcome):
        """A model counts as there if it is listed or downloaded."""
        assert outcome == judge_model("gemma", listed, states).outcome

    def test_many_are_not_all_told(self):
        """Of a long list the first five names are told."""
        message = judge_model("gemma", [f"m{number}" for number in range(8)], None).message

        assert "m0, m1, m2, m3, m4 and 3 more" in message


class TestJudgeLoaded:
    @pytest.mark.parametrize(
        ("loaded", "is_listed", "outcome"),
        [(True, True, "ok"), (True, False, "ok"), (False, True, "warning"), (False, False, "failed")],
    )
    def test_outcome(self, loaded, is_listed, outcome):
        """A model that is downloaded but not listed can't be loaded by a call: just-in-time loading is off."""
        assert outcome == judge_loaded(state(loaded=loaded), is_listed=is_listed).outcome


class TestJudgeContext:
    @pytest.mark.parametrize(
        ("length", "max_tokens", "outcome"),
        [
            (4096, 4096, "failed"),
            (4096, 4095, "warning"),
            (4096, 3073, "warning"),
            (4096, 3072, "ok"),
            (4096, 256, "ok"),
        ],
    )
    def test_outcome(self, length, max_tokens, outcome):
        """1024 tokens are left for prompt and picture, or it is a warning."""
        assert outcome == judge_context(length, max_tokens).outcome


class TestJudgeProblems:
    @pytest.mark.parametrize(
        ("severities", "outcome"),
        [
            ([], "ok"),
            ([ProblemSeverity.NOTE], "ok"),
            ([ProblemSeverity.NOTE, ProblemSeverity.WARNING], "warning"),
            ([ProblemSeverity.WARNING, ProblemSeverity.ERROR], "failed"),
        ],
    )
    def test_outcome(self, severities, outcome):
        """Errors fail, warnings warn, notes do neither."""
        problems = [Problem(Place("a.yaml", 1, 1), "", "is odd", "PL101", severity) for severity in severities]

        assert outcome == judge_problems(problems).outcome


def test_loaded_copy_is_preferred():
    """Of two models by the same name the loaded one counts."""
    first, second = state("a/gemma"), state("b/gemma", loaded=True)

    assert (second, None) == (state_of("gemma", [first, second]), state_of("gemma", []))


def test_error_of_nobody():
    """An error that is none of ours is a failure too, with its type."""
    finding = failure_of(RuntimeError("boom"))

    assert (Outcome.FAILED, "RuntimeError: boom") == (finding.outcome, finding.message)
