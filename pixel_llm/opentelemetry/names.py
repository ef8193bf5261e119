"""The names of attributes: our own, and those of OpenTelemetry's semantic conventions."""

from __future__ import annotations

#: The version of the conventions that the names below are from.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

#: The name under which spans and metrics come.
SCOPE = "pixel_llm"

TARGET = "pixel_llm.target"
PROFILE = "pixel_llm.profile"
REQUEST_ID = "pixel_llm.request_id"
SERVED_BY = "pixel_llm.served_by"
DEGRADED = "pixel_llm.degraded"
ATTEMPTS = "pixel_llm.attempts"
ATTEMPT = "pixel_llm.attempt"
LEFT = "pixel_llm.left"

ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"

HTTP_METHOD = "http.request.method"
HTTP_RESEND_COUNT = "http.request.resend_count"
HTTP_STATUS = "http.response.status_code"
URL_FULL = "url.full"

GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - input or output
