"""The profile for long batches, through an outage that is over soon."""

from __future__ import annotations

import numpy as np

from pixel_llm import HybridPixelLLM
from pixel_llm.testing import ScriptedLMStudio, Status


def test_an_outage_fails_no_picture_of_a_long_batch(tmp_path, monkeypatch):
    """
    `high-throughput` waits until its breaker lets calls through again, rather than fail all that is left.
    """
    monkeypatch.chdir(tmp_path)
    chat = {"retry": {"initial_delay": "20ms", "max_delay": "50ms"}, "circuit_breaker": {"cooldown": "500ms"}}
    pictures = [np.full((16, 16, 3), shade, np.uint8) for shade in range(24)]
    with ScriptedLMStudio([Status(status=500)] * 11) as server:
        sections = {"lm_studio": {"base_url": server.base_url, "vision": "image"}, "targets": {"lm_studio.chat": chat}}
        with HybridPixelLLM("high-throughput", error_config=sections) as model:
            items = model.generate_batch(pictures, jobs=4)

    assert ["lm_studio"] * 24 == [item.unwrap().served_by for item in items]
