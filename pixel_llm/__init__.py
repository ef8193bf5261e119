"""
Dependable image captions from LM Studio: resilience as configuration.

The public names, loaded when they are first used (PEP 562), so that checking a policy
loads neither httpx nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixel_llm.errors import (
        APIError,
        CircuitBreakerOpen,
        ConnectionError,
        EncoderError,
        ErrorCategory,
        ErrorCode,
        LimitExceeded,
        PixelLMError,
        PolicyError,
        RetryExhausted,
        Severity,
        TimeoutError,
        ValidationError,
        classify_error,
        get_recovery_suggestion,
        is_retryable,
    )
    from pixel_llm.hybrid import (
        AsyncCaptionStream,
        BatchItem,
        BatchProgress,
        CaptionResult,
        CaptionStream,
        HybridConfig,
        HybridPixelLLM,
    )
    from pixel_llm.lm_studio import AsyncPolicyTransport, DoubleRetryWarning, PolicyTransport, error_behind
    from pixel_llm.monitoring import (
        Health,
        HealthStatus,
        LogContext,
        LogLevel,
        Snapshot,
        StructuredLogger,
        get_default_logger,
        get_logger,
        set_context,
    )
    from pixel_llm.monitoring.endpoint import MetricsServer, metrics_asgi_app, metrics_wsgi_app, serve_metrics
    from pixel_llm.monitoring.error_metrics import ErrorMetrics, get_metrics
    from pixel_llm.request import current_request_id
    from pixel_llm.resilience import CircuitState, Outcome, current_limits, register_function
    from pixel_llm.runtime import Policies, Reloaded, active_policies, guard, load_policies
    from pixel_llm.validation import (
        sanitize_input,
        validate_batch_size,
        validate_config,
        validate_encoder_config,
        validate_file_path,
        validate_image_tensor,
        validate_lm_studio_config,
        validate_tensor,
    )

_ROOMS = {
    "pixel_llm.errors": (
        "APIError",
        "CircuitBreakerOpen",
        "ConnectionError",
        "EncoderError",
        "ErrorCategory",
        "ErrorCode",
        "LimitExceeded",
        "PixelLMError",
        "PolicyError",
        "RetryExhausted",
        "Severity",
        "TimeoutError",
        "ValidationError",
        "classify_error",
        "get_recovery_suggestion",
        "is_retryable",
    ),
    "pixel_llm.hybrid": (
        "AsyncCaptionStream",
        "BatchItem",
        "BatchProgress",
        "CaptionResult",
        "CaptionStream",
        "HybridConfig",
        "HybridPixelLLM",
    ),
    "pixel_llm.lm_studio": ("AsyncPolicyTransport", "DoubleRetryWarning", "PolicyTransport", "error_behind"),
    "pixel_llm.monitoring": (
        "Health",
        "HealthStatus",
        "LogContext",
        "LogLevel",
        "Snapshot",
        "StructuredLogger",
        "get_default_logger",
        "get_logger",
        "set_context",
    ),
    "pixel_llm.monitoring.endpoint": ("MetricsServer", "metrics_asgi_app", "metrics_wsgi_app", "serve_metrics"),
    "pixel_llm.monitoring.error_metrics": ("ErrorMetrics", "get_metrics"),
    "pixel_llm.request": ("current_request_id",),
    "pixel_llm.resilience": ("CircuitState", "Outcome", "current_limits", "register_function"),
    "pixel_llm.runtime": ("Policies", "Reloaded", "active_policies", "guard", "load_policies"),
    "pixel_llm.validation": (
        "sanitize_input",
        "validate_batch_size",
        "validate_config",
        "validate_encoder_config",
        "validate_file_path",
        "validate_image_tensor",
        "validate_lm_studio_config",
        "validate_tensor",
    ),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "AsyncCaptionStream",
    "AsyncPolicyTransport",
    "BatchItem",
    "BatchProgress",
    "CaptionResult",
    "CaptionStream",
    "CircuitBreakerOpen",
    "CircuitState",
    "ConnectionError",
    "DoubleRetryWarning",
    "EncoderError",
    "ErrorCategory",
    "ErrorCode",
    "ErrorMetrics",
    "Health",
    "HealthStatus",
    "HybridConfig",
    "HybridPixelLLM",
    "LimitExceeded",
    "LogContext",
    "LogLevel",
    "MetricsServer",
    "Outcome",
    "PixelLMError",
    "Policies",
    "PolicyError",
    "PolicyTransport",
    "Reloaded",
    "RetryExhausted",
    "Severity",
    "Snapshot",
    "StructuredLogger",
    "TimeoutError",
    "ValidationError",
    "active_policies",
    "classify_error",
    "current_limits",
    "current_request_id",
    "error_behind",
    "get_default_logger",
    "get_logger",
    "get_metrics",
    "get_recovery_suggestion",
    "guard",
    "is_retryable",
    "load_policies",
    "metrics_asgi_app",
    "metrics_wsgi_app",
    "register_function",
    "sanitize_input",
    "serve_metrics",
    "set_context",
    "validate_batch_size",
    "validate_config",
    "validate_encoder_config",
    "validate_file_path",
    "validate_image_tensor",
    "validate_lm_studio_config",
    "validate_tensor",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
