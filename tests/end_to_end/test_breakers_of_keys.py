"""Circuit breakers per model and per endpoint, around LM Studio."""

from __future__ import annotations

import pytest

from pixel_llm.testing import Answer


@pytest.mark.parametrize("per", ["model", "endpoint"])
def test_chat_and_models_know_their_keys(stage, per):
    """
    The system's own targets find model and endpoint without a word from the program.
    """
    stage = stage(
        Answer(text="A red picture."),
        overrides={
            "targets": {
                "lm_studio.chat": {"circuit_breaker": {"per": per}},
                "lm_studio.models": {"circuit_breaker": {"per": "endpoint"}},
            }
        },
    )
    stage.ask()
    stage.model.models()
    config, address = stage.model.policies.config.lm_studio, stage.model.client.base_url

    assert [config.model if per == "model" else address] == list(stage.model.policies.breakers("lm_studio.chat"))
    assert [address] == list(stage.model.policies.breakers("lm_studio.models"))
