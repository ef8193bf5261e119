"""Type-checked, never run: what users write must type-check, with the types they expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import httpx
import numpy as np
import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from pixel_llm import (
    AsyncPolicyTransport,
    BatchItem,
    CaptionResult,
    ErrorMetrics,
    HealthStatus,
    HybridConfig,
    HybridPixelLLM,
    LogContext,
    LogLevel,
    PixelLMError,
    Policies,
    PolicyTransport,
    StructuredLogger,
    current_request_id,
    error_behind,
    get_logger,
    get_metrics,
    load_policies,
    metrics_asgi_app,
    metrics_wsgi_app,
    register_function,
    sanitize_input,
    serve_metrics,
    set_context,
    validate_batch_size,
    validate_config,
    validate_encoder_config,
    validate_file_path,
    validate_image_tensor,
    validate_lm_studio_config,
    validate_tensor,
)
from pixel_llm.encoder import Picture, load_image, load_images, to_data_uri
from pixel_llm.opentelemetry import instrument, uninstrument
from pixel_llm.policy import EncoderConfig, ImageConfig, LMStudioConfig
from pixel_llm.testing import Answer, Hang, ScriptedLMStudio, VirtualClock
from pixel_llm.validation import ImageShape

policies: Policies = load_policies("policies/", profile="production", overrides={"logging": {"level": "ERROR"}})


def ask(prompt: str, *, tokens: int = 10) -> str:
    return prompt * tokens


async def ask_async(prompt: str) -> str:
    return prompt


guarded = policies.wrap("lm_studio.chat", ask, key=lambda prompt, tokens=10: (prompt, tokens))
assert_type(guarded("hello", tokens=3), str)
guarded.outcome("hello")
guarded(3)  # type: ignore[arg-type]  # the signature is kept

assert_type(policies.snapshot().targets["lm_studio.chat"].succeeded, int)
assert_type(policies.health().status, HealthStatus)
serve_metrics(policies, 9464).close()
serve_metrics([policies, policies], host="127.0.0.1")
metrics_asgi_app(policies)
metrics_wsgi_app([policies])
metrics: ErrorMetrics = get_metrics()
metrics.watch(policies)
policies.add_listener(metrics)
assert_type(metrics.get_error_summary().total, int)
metrics.register_callback(lambda point: print(point.value), "error")


async def main() -> None:
    guarded_async = policies.wrap("lm_studio.chat", ask_async)
    assert_type(await guarded_async("hello"), str)
    with HybridPixelLLM("production", error_config={"targets": {}}) as model:
        assert_type(await model.generate_async("photo.jpg"), CaptionResult)
        assert_type(model.generate(b"...").text, str)
        with model.stream("photo.jpg", "Who?") as pieces:
            assert_type("".join(pieces), str)
            assert_type(pieces.result, CaptionResult)
        async for piece in model.stream_async("photo.jpg"):
            assert_type(piece, str)
        items = model.generate_batch(["photo.jpg", b"..."], jobs=2, on_progress=lambda progress: print(progress.done))
        assert_type(items, list[BatchItem])
        assert_type(items[0].unwrap(), CaptionResult)
        assert_type(await model.generate_batch_async(iter(["photo.jpg"])), list[BatchItem])
        assert_type(model.config, HybridConfig)


@policies.guard("billing.charge")
def charge(amount: float) -> bool:
    return amount > 0


assert_type(charge(3.0), bool)

log = get_logger("billing")
assert_type(log, StructuredLogger)
assert_type(log.bind(tenant="acme"), StructuredLogger)
log.error("not charged", error_code="ERR_CB_OPEN", exc_info=ValueError(), amount=3.0)
log.log(LogLevel.INFO, "charged", amount=3.0)
log.change_level(None)
assert_type(log.flush(timeout=1.0), bool)
assert_type(policies.log.dropped, int)
assert_type(policies.log.lost, int)
with LogContext(request_id="req-1", tenant="acme"):
    assert_type(current_request_id(), str | None)
set_context(tenant=None)

with ScriptedLMStudio(script=[Hang(), Answer(text="A cat.")]) as server:
    assert_type(server.base_url, str)
    load_policies(clock=VirtualClock())

sync_client = httpx.Client(transport=PolicyTransport(policies, "lm_studio.chat", httpx.HTTPTransport()))
async_client = httpx.AsyncClient(transport=AsyncPolicyTransport(policies, "lm_studio.chat", error_bodies=False))
assert_type(error_behind(ValueError()), PixelLMError | None)


@register_function("apologise")
def apologise(amount: float) -> bool:
    return amount > 3


assert_type(apologise(3.0), bool)
assert_type(register_function("ask", ask)("hello"), str)

assert_type(validate_tensor(torch.zeros(3), "features", shape=(None,), dtype=torch.float32), torch.Tensor)
assert_type(validate_image_tensor(np.zeros((9, 9)), layout="chw", value_range="-1..1", batched=False), ImageShape)
validate_image_tensor(np.zeros((9, 9)), layout="nchw")  # type: ignore[arg-type]  # there are two layouts
assert_type(validate_config({}, required=["a"], types={"a": (int, str)}, validators={"a": bool}), dict[str, Any])
assert_type(validate_lm_studio_config({"model": "m"}), LMStudioConfig)
assert_type(validate_encoder_config(EncoderConfig()), EncoderConfig)
assert_type(validate_batch_size(3), int)
assert_type(validate_file_path("a.png", extensions=[".png"], root=Path()), Path)
sanitize_input(["text"], max_depth=3)
assert_type(load_image("a.png", layout="hwc", value_range="0..255"), Picture)
assert_type(load_images([Path("a.png"), b"...", torch.zeros(3, 9, 9)]), list[Picture])
assert_type(to_data_uri(load_image(np.zeros((9, 9))), ImageConfig(max_side=512)), str)

instrument(policies, tracer_provider=TracerProvider(), meter_provider=MeterProvider())
uninstrument(policies)
