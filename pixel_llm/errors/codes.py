"""
The table of error codes: the one source for exceptions, classifier, log and docs.

A code says *what* went wrong (``ERR_CONN_REFUSED``), its family *where* it belongs
(CONNECTION), its category *what to do about it* (TRANSIENT: try again).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorFamily(StrEnum):
    """The part of the system that a code belongs to."""

    CONNECTION = "CONNECTION"
    TIMEOUT = "TIMEOUT"
    VALIDATION = "VALIDATION"
    API = "API"
    ENCODER = "ENCODER"
    CIRCUIT_BREAKER = "CIRCUIT_BREAKER"
    RETRY = "RETRY"
    LIMIT = "LIMIT"


class ErrorCategory(StrEnum):
    """
    What an error means for the policy.

    TRANSIENT may go away by itself; PERMANENT will not, whoever asks again;
    THROTTLED means "later"; DEGRADATION means that a guard is holding calls back
    from something already known to be unwell; UNKNOWN is everything else.
    """

    TRANSIENT = "TRANSIENT"
    PERMANENT = "PERMANENT"
    DEGRADATION = "DEGRADATION"
    THROTTLED = "THROTTLED"
    UNKNOWN = "UNKNOWN"


class Severity(StrEnum):
    """How much an error matters to the person on call."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class ErrorCode(StrEnum):
    """Every code the system reports. ``info`` leads to its row in the table."""

    ERR_CONN_UNAVAILABLE = "ERR_CONN_UNAVAILABLE"
    ERR_CONN_REFUSED = "ERR_CONN_REFUSED"
    ERR_CONN_TIMEOUT = "ERR_CONN_TIMEOUT"
    ERR_CONN_LOST = "ERR_CONN_LOST"
    ERR_TIMEOUT_REQUEST = "ERR_TIMEOUT_REQUEST"
    ERR_TIMEOUT_RESPONSE = "ERR_TIMEOUT_RESPONSE"
    ERR_TIMEOUT_IDLE = "ERR_TIMEOUT_IDLE"
    ERR_TIMEOUT_DEADLINE = "ERR_TIMEOUT_DEADLINE"
    ERR_VAL_INVALID_TENSOR = "ERR_VAL_INVALID_TENSOR"
    ERR_VAL_MISSING_FIELD = "ERR_VAL_MISSING_FIELD"
    ERR_VAL_INVALID_RANGE = "ERR_VAL_INVALID_RANGE"
    ERR_VAL_EMPTY_INPUT = "ERR_VAL_EMPTY_INPUT"
    ERR_VAL_INVALID_POLICY = "ERR_VAL_INVALID_POLICY"
    ERR_API_RATE_LIMIT = "ERR_API_RATE_LIMIT"
    ERR_API_OVERLOAD = "ERR_API_OVERLOAD"
    ERR_API_INVALID_RESPONSE = "ERR_API_INVALID_RESPONSE"
    ERR_API_UNAUTHORIZED = "ERR_API_UNAUTHORIZED"
    ERR_API_MODEL_NOT_FOUND = "ERR_API_MODEL_NOT_FOUND"
    ERR_API_CONTEXT_LENGTH = "ERR_API_CONTEXT_LENGTH"
    ERR_API_BAD_REQUEST = "ERR_API_BAD_REQUEST"
    ERR_API_SERVER_ERROR = "ERR_API_SERVER_ERROR"
    ERR_ENC_LOAD_FAILED = "ERR_ENC_LOAD_FAILED"
    ERR_ENC_FORWARD_FAILED = "ERR_ENC_FORWARD_FAILED"
    ERR_ENC_INVALID_INPUT = "ERR_ENC_INVALID_INPUT"
    ERR_ENC_OUT_OF_MEMORY = "ERR_ENC_OUT_OF_MEMORY"
    ERR_CB_OPEN = "ERR_CB_OPEN"
    ERR_CB_HALF_OPEN = "ERR_CB_HALF_OPEN"
    ERR_RETRY_EXHAUSTED = "ERR_RETRY_EXHAUSTED"
    ERR_RETRY_BUDGET = "ERR_RETRY_BUDGET"
    ERR_LIMIT_RATE = "ERR_LIMIT_RATE"
    ERR_LIMIT_BULKHEAD = "ERR_LIMIT_BULKHEAD"

    @property
    def info(self) -> ErrorCodeInfo:
        """The row of this code in :data:`ERROR_CODES`."""
        return ERROR_CODES[self]


@dataclass(frozen=True, slots=True)
class ErrorCodeInfo:
    """One row of the table. Immutable, safe to share between threads."""

    code: ErrorCode
    family: ErrorFamily
    category: ErrorCategory
    severity: Severity
    retryable: bool
    message: str
    suggestion: str


def _build_table() -> dict[ErrorCode, ErrorCodeInfo]:
    family = ErrorFamily
    transient, permanent = ErrorCategory.TRANSIENT, ErrorCategory.PERMANENT
    throttled, degradation = ErrorCategory.THROTTLED, ErrorCategory.DEGRADATION
    low, medium, high, critical = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL
    yes, no = True, False
    code = ErrorCode
    # fmt: off
    rows = [
        (code.ERR_CONN_UNAVAILABLE, family.CONNECTION, transient, high, yes, "the server cannot be reached",
         "check the host name, the network and that the server is running"),
        (code.ERR_CONN_REFUSED, family.CONNECTION, transient, medium, yes, "the connection was refused",
         "start LM Studio's server (Developer page, or `lms server start`) and check the port in lm_studio.base_url"),
        (code.ERR_CONN_TIMEOUT, family.CONNECTION, transient, medium, yes, "no connection was made in time",
         "check that the host is up; write 127.0.0.1 rather than localhost"),
        (code.ERR_CONN_LOST, family.CONNECTION, transient, medium, yes, "the connection broke before the answer was complete",
         "look into the server's log: it may have crashed or unloaded the model"),
        (code.ERR_TIMEOUT_REQUEST, family.TIMEOUT, transient, medium, yes, "the attempt took longer than its timeout",
         "raise the target's timeout, or give it less to do"),
        (code.ERR_TIMEOUT_RESPONSE, family.TIMEOUT, transient, medium, yes, "the server did not answer in time",
         "raise the target's timeout, ask for fewer tokens, or load a smaller model"),
        (code.ERR_TIMEOUT_IDLE, family.TIMEOUT, transient, low, yes, "the server sent nothing for too long",
         "look whether the server is still generating; raise timeout.idle if it is"),
        (code.ERR_TIMEOUT_DEADLINE, family.TIMEOUT, transient, medium, no, "the whole call ran out of time",
         "raise the target's deadline, or lower its attempts, waits and timeout so that they fit"),
        (code.ERR_VAL_INVALID_TENSOR, family.VALIDATION, permanent, low, no, "the tensor has the wrong shape, type or values",
         "pass an image as H×W×3 or 3×H×W, uint8 or float in 0..1"),
        (code.ERR_VAL_MISSING_FIELD, family.VALIDATION, permanent, low, no, "a required field is missing",
         "add the field that the message names"),
        (code.ERR_VAL_INVALID_RANGE, family.VALIDATION, permanent, low, no, "a value is outside what is allowed",
         "use a value in the range that the message names"),
        (code.ERR_VAL_EMPTY_INPUT, family.VALIDATION, permanent, low, no, "the input is empty",
         "pass something that has content"),
        (code.ERR_VAL_INVALID_POLICY, family.VALIDATION, permanent, low, no, "the policy is wrong",
         "mend the places that the message lists; `pixel-llm policy validate` checks again"),
        (code.ERR_API_RATE_LIMIT, family.API, throttled, medium, yes, "the server asks to slow down",
         "wait as long as the error's retry_after says, or send less"),
        (code.ERR_API_OVERLOAD, family.API, transient, high, yes, "the server is overloaded or still loading a model",
         "wait until it has loaded; send fewer calls at once"),
        (code.ERR_API_INVALID_RESPONSE, family.API, transient, medium, yes, "the answer is not what the API promises",
         "check that lm_studio.base_url leads to an OpenAI-compatible server and ends in /v1"),
        (code.ERR_API_UNAUTHORIZED, family.API, permanent, high, no, "the server does not accept the API key",
         "set lm_studio.api_key (or $LM_STUDIO_API_KEY) to a key of this server"),
        (code.ERR_API_MODEL_NOT_FOUND, family.API, permanent, medium, no, "the server does not know the model",
         "use a name that the server lists under /v1/models, or download the model in LM Studio"),
        (code.ERR_API_CONTEXT_LENGTH, family.API, permanent, medium, no, "the request does not fit into the model's context",
         "load the model with a larger context, shorten the prompt, or send the description instead of the picture"),
        (code.ERR_API_BAD_REQUEST, family.API, permanent, medium, no, "the server rejects the request",
         "read the server's text in the message: the same request will fail again"),
        (code.ERR_API_SERVER_ERROR, family.API, transient, medium, yes, "the server failed",
         "look into the server's log; the model may have crashed"),
        (code.ERR_ENC_LOAD_FAILED, family.ENCODER, permanent, critical, no, "the encoder cannot be loaded",
         "check encoder.type and encoder.device, and install pixel-llm[encoder]"),
        (code.ERR_ENC_FORWARD_FAILED, family.ENCODER, transient, high, yes, "the encoder failed on this image",
         "try another image; if all fail, reinstall torch"),
        (code.ERR_ENC_INVALID_INPUT, family.ENCODER, permanent, medium, no, "the encoder cannot read this image",
         "pass a picture in a format that Pillow reads, such as PNG or JPEG"),
        (code.ERR_ENC_OUT_OF_MEMORY, family.ENCODER, transient, high, yes, "the encoder ran out of memory",
         "use encoder.device: cpu, or smaller pictures"),
        (code.ERR_CB_OPEN, family.CIRCUIT_BREAKER, degradation, medium, no, "the circuit breaker is open",
         "mend what made the calls fail; the breaker tries again after its cooldown"),
        (code.ERR_CB_HALF_OPEN, family.CIRCUIT_BREAKER, degradation, medium, no, "the circuit breaker is trying out whether calls succeed again",
         "wait for the trial calls to end"),
        (code.ERR_RETRY_EXHAUSTED, family.RETRY, degradation, high, no, "all attempts are used up",
         "look at the error's history; raise retry.max_attempts only if the cause goes away by itself"),
        (code.ERR_RETRY_BUDGET, family.RETRY, degradation, medium, no, "the retry budget is empty",
         "too many calls fail for retries to help: mend the cause"),
        (code.ERR_LIMIT_RATE, family.LIMIT, throttled, medium, no, "the rate limit holds this call back",
         "send fewer calls, or raise rate_limit"),
        (code.ERR_LIMIT_BULKHEAD, family.LIMIT, throttled, medium, no, "too many calls are under way",
         "send fewer calls at once, or raise bulkhead"),
    ]
    # fmt: on
    return {row[0]: ErrorCodeInfo(*row) for row in rows}


ERROR_CODES: dict[ErrorCode, ErrorCodeInfo] = _build_table()
