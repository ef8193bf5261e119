"""Is there a server, and does it accept the key?"""

from __future__ import annotations

from pixel_llm.doctor.case import Case
from pixel_llm.doctor.findings import Finding, failed, ok
from pixel_llm.errors import APIError, ErrorCode
from pixel_llm.lm_studio import LMStudioClient
from pixel_llm.policy.showing import count


def check_server(case: Case) -> Finding:
    """Ask the server which models it has. One that wants another key is a server, too."""
    endpoint = case.endpoint or case.config.servers[0]
    key = endpoint.api_key
    case.server = client = LMStudioClient(endpoint.base_url, api_key=None if key is None else key.reveal())
    try:
        case.listed = client.models()
    except APIError as error:
        if error.error_code is not ErrorCode.ERR_API_UNAUTHORIZED:
            raise
        case.refusal = error
        return ok(f"{client.base_url} answers")
    return ok(f"{client.base_url} answers, and lists {count(len(case.listed), 'model')}")


def check_key(case: Case) -> Finding:
    """See what the server said to the key."""
    return judge_key(case.refusal, has_key=bool(case.client.key_fingerprint))


def judge_key(refusal: APIError | None, *, has_key: bool) -> Finding:
    """What it means that the server answered with *refusal*, or without one."""
    if refusal is None:
        return ok("the server accepts the key" if has_key else "no key is set, and none is wanted")
    if has_key:
        return failed(str(refusal), "set lm_studio.api_key (or $LM_STUDIO_API_KEY) to a key of this server")
    return failed(
        f"no key is set, and the server wants one: {refusal}",
        "make a key in LM Studio, put it into $LM_STUDIO_API_KEY, and write lm_studio.api_key: ${LM_STUDIO_API_KEY}",
    )
