"""What can go wrong: codes, exceptions and their classification. Imports nothing else of the package."""

from pixel_llm.errors.arrived import Arrived
from pixel_llm.errors.classifier import (
    ErrorClassification,
    ErrorClassifier,
    classify_error,
    default_classifier,
    get_recovery_suggestion,
    http_status,
    is_retryable,
    root_cause,
    root_classification,
)
from pixel_llm.errors.codes import ERROR_CODES, ErrorCategory, ErrorCode, ErrorCodeInfo, ErrorFamily, Severity
from pixel_llm.errors.exceptions import (
    APIError,
    AttemptRecord,
    CauseSummary,
    CircuitBreakerOpen,
    ConnectionError,
    EncoderError,
    LimitExceeded,
    PixelLMError,
    PolicyError,
    RetryExhausted,
    TimeoutError,
    ValidationError,
)
from pixel_llm.errors.problem import Place, Problem, ProblemSeverity
from pixel_llm.errors.retry_header import parse_retry_after, retry_after
from pixel_llm.errors.statuses import PLAIN_STATUSES, code_of_status

__all__ = [
    "ERROR_CODES",
    "PLAIN_STATUSES",
    "APIError",
    "Arrived",
    "AttemptRecord",
    "CauseSummary",
    "CircuitBreakerOpen",
    "ConnectionError",
    "EncoderError",
    "ErrorCategory",
    "ErrorClassification",
    "ErrorClassifier",
    "ErrorCode",
    "ErrorCodeInfo",
    "ErrorFamily",
    "LimitExceeded",
    "PixelLMError",
    "Place",
    "PolicyError",
    "Problem",
    "ProblemSeverity",
    "RetryExhausted",
    "Severity",
    "TimeoutError",
    "ValidationError",
    "classify_error",
    "code_of_status",
    "default_classifier",
    "get_recovery_suggestion",
    "http_status",
    "is_retryable",
    "parse_retry_after",
    "retry_after",
    "root_cause",
    "root_classification",
]
