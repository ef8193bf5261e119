"""The policy language: YAML text in, frozen configs out. Knows neither tenacity, pybreaker, httpx nor torch."""

from pixel_llm.policy.durations import format_duration, parse_duration
from pixel_llm.policy.loading import DEFAULT_PROFILE, LoadedPolicy, load_policy, load_policy_file
from pixel_llm.policy.locating import find_folder, policy_files, profiles_in, shipped_folder
from pixel_llm.policy.schema import build_schema, render_schema
from pixel_llm.policy.secrets import Secret
from pixel_llm.policy.sections.bulkhead import AdaptiveConfig, BulkheadConfig
from pixel_llm.policy.sections.chaos import ChaosConfig, ChaosDelay, ChaosError, ChaosResult
from pixel_llm.policy.sections.circuit_breaker import BreakerMode, CircuitBreakerConfig, WindowConfig
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.encoder import (
    Device,
    Dtype,
    EncoderBatchConfig,
    EncoderCacheConfig,
    EncoderConfig,
    EncoderType,
    Normalization,
    OutOfMemoryStep,
)
from pixel_llm.policy.sections.endpoints import Balance, ColdStartConfig, EndpointConfig, HealthConfig
from pixel_llm.policy.sections.fallback import CacheConfig, FallbackStep, FallbackStrategy
from pixel_llm.policy.sections.hedge import HedgeConfig
from pixel_llm.policy.sections.image import ImageConfig, ImageFormat
from pixel_llm.policy.sections.lm_studio import GenerationConfig, LMStudioConfig, Vision, WithoutVision
from pixel_llm.policy.sections.logging import (
    LogContent,
    LogFormat,
    LoggingConfig,
    LogLevel,
    RotationConfig,
    SamplingConfig,
)
from pixel_llm.policy.sections.rate_limit import RateLimitConfig, TokenLimitConfig
from pixel_llm.policy.sections.retry import Jitter, RetryConfig, RetryStrategy
from pixel_llm.policy.sections.retry_budget import RetryBudgetConfig
from pixel_llm.policy.sections.target import SYSTEM_TARGETS, TargetPolicy
from pixel_llm.policy.sections.timeout import TimeoutConfig

__all__ = [
    "DEFAULT_PROFILE",
    "SYSTEM_TARGETS",
    "AdaptiveConfig",
    "Balance",
    "BreakerMode",
    "BulkheadConfig",
    "CacheConfig",
    "ChaosConfig",
    "ChaosDelay",
    "ChaosError",
    "ChaosResult",
    "CircuitBreakerConfig",
    "ColdStartConfig",
    "Device",
    "Dtype",
    "EncoderBatchConfig",
    "EncoderCacheConfig",
    "EncoderConfig",
    "EncoderType",
    "EndpointConfig",
    "FallbackStep",
    "FallbackStrategy",
    "GenerationConfig",
    "HealthConfig",
    "HedgeConfig",
    "ImageConfig",
    "ImageFormat",
    "Jitter",
    "LMStudioConfig",
    "LoadedPolicy",
    "LogContent",
    "LogFormat",
    "LogLevel",
    "LoggingConfig",
    "Normalization",
    "OutOfMemoryStep",
    "PolicyConfig",
    "RateLimitConfig",
    "RetryBudgetConfig",
    "RetryConfig",
    "RetryStrategy",
    "RotationConfig",
    "SamplingConfig",
    "Secret",
    "TargetPolicy",
    "TimeoutConfig",
    "TokenLimitConfig",
    "Vision",
    "WindowConfig",
    "WithoutVision",
    "build_schema",
    "find_folder",
    "format_duration",
    "load_policy",
    "load_policy_file",
    "parse_duration",
    "policy_files",
    "profiles_in",
    "render_schema",
    "shipped_folder",
]
