"""A model that takes no images, under a policy that has it asked in words."""

from __future__ import annotations

import pytest

from pixel_llm import APIError, ErrorCode
from pixel_llm.hybrid.asking import BLIND_FOR
from pixel_llm.testing import Answer, ErrorBody, Status

WORDS = {"lm_studio": {"vision": "both", "without_vision": "description"}}
BLIND = [
    pytest.param(
        Status(status=400, message="Model does not support images. Please use a model that does.", envelope="string"),
        id="LM Studio",
    ),
    pytest.param(ErrorBody(message="Vision add-on is not loaded, but images were provided."), id="with 200"),
    pytest.param(Status(status=500, message="image input is not supported"), id="llama.cpp"),
]


def images_sent(made):
    bodies = [request.body for request in made.server.requests if request.path.endswith("/completions")]
    return [isinstance(body["messages"][-1]["content"], list) for body in bodies]


class TestWithoutVision:
    @pytest.mark.parametrize("refusal", BLIND)
    def test_asked_again_in_words(self, stage, refusal):
        """
        The description alone serves, and the result says so.
        """
        made = stage(refusal, Answer(text="Something red."), overrides=WORDS)

        result = made.ask()

        assert ("Something red.", "description", True, 2) == (
            result.text,
            result.served_by,
            result.degraded,
            result.attempts,
        )
        assert ErrorCode.ERR_API_BAD_REQUEST == result.error_code
        assert [True, False] == images_sent(made)
        assert 0 == made.breaker.failures

    def test_streams_too(self, stage):
        """
        A stream begins anew before its first piece.
        """
        made = stage(BLIND[0].values[0], Answer(text="Something red."), overrides=WORDS)

        pieces, stream = made.stream()

        assert ("Something red.", "description", True, 2) == (
            "".join(pieces),
            stream.result.served_by,
            stream.result.degraded,
            stream.result.attempts,
        )

    def test_is_remembered_for_a_while(self, stage):
        """
        For ten minutes nobody tries to send the picture; then somebody does.
        """
        made = stage(BLIND[0].values[0], overrides=WORDS)
        made.ask()

        assert ("description", 1) == (made.ask().served_by, made.ask().attempts)

        made.clock.advance(BLIND_FOR)

        assert "lm_studio" == made.ask().served_by
        assert [True, False, False, False, True] == images_sent(made)

    def test_is_not_kept_for_later(self, stage):
        """
        What the model said without the picture is no substitute for an answer.
        """
        made = stage(BLIND[0].values[0], Answer(text="Something red."), then=Status(status=500), overrides=WORDS)
        made.ask()

        assert "default_value" == made.ask().served_by

    def test_only_if_the_policy_says_so(self, stage):
        """
        Without the setting the refusal is raised, and says what to do.
        """
        made = stage(then=BLIND[0].values[0])

        with pytest.raises(APIError, match="vision model"):
            made.ask()

    def test_refused_once_more(self, stage):
        """
        A server that speaks of images though it got none is not asked in circles.
        """
        made = stage(then=BLIND[0].values[0], overrides=WORDS)

        with pytest.raises(APIError):
            made.ask()

        assert 2 == made.times_asked()
