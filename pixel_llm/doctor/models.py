"""Is the model there, is it loaded, and does what the policy asks for fit into it?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pixel_llm.doctor.case import Case
from pixel_llm.doctor.findings import Finding, failed, ok, skipped, warning
from pixel_llm.errors import APIError
from pixel_llm.lm_studio import ModelState
from pixel_llm.lm_studio.replies import is_same_model
from pixel_llm.policy.suggestions import suggestion

#: Tokens that a prompt with a description takes at most, by what the encoders write; a picture takes hundreds more.
_PROMPT_TOKENS = 1024
#: So many names are told of a list.
_TOLD = 5


def check_model(case: Case) -> Finding:
    """Look the model up, in the server's list and in LM Studio's own."""
    try:
        case.states = case.client.model_states()
    except APIError as error:
        case.no_states = f"LM Studio's own list can't be read: {error}"
    return judge_model(case.config.model, case.listed, case.states)


def check_loaded(case: Case) -> Finding:
    """See whether the model answers at once."""
    state = state_of(case.config.model, case.states or ())
    if state is None:
        return skipped(case.no_states if case.states is None else "LM Studio's own list does not have the model")
    is_listed = is_among(case.config.model, case.listed)
    return judge_loaded(state, is_listed=is_listed, has_grace=case.config.cold_start is not None)


def check_context(case: Case) -> Finding:
    """See whether the longest answer fits into the model's context."""
    state = state_of(case.config.model, case.states or ())
    length = None if state is None else state.loaded_context_length or state.max_context_length
    if length is None:
        return skipped(case.no_states if case.states is None else "LM Studio does not tell how long it is")
    return judge_context(length, case.config.generation.max_tokens)


def judge_model(model: str, listed: Sequence[str] | Iterable[str], states: Sequence[ModelState] | None) -> Finding:
    """
    Is *model* there?

    Args:
        model: The name that the policy has.
        listed: The names under ``/v1/models``: all that can be asked.
        states: LM Studio's own list: all that is downloaded; None from other servers.
    """
    names = list(dict.fromkeys([*listed, *(state.id for state in states or ())]))
    if is_among(model, names):
        return ok(f"the server has {model}")
    if not names:
        return failed("the server has no models", "download one in LM Studio, or start the server with one")
    told = ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
    todo = f"set lm_studio.model to a name that the server lists{suggestion(model, names)}"
    if states is not None:
        return failed(f"the server has no {model}, but {told}", f"download it in LM Studio, or {todo}")
    # llama.cpp's server answers with the model it has, whichever is asked for.
    return warning(f"the server does not list {model}, but {told}", todo)


def judge_loaded(state: ModelState, *, is_listed: bool, has_grace: bool = False) -> Finding:
    """
    Is the model loaded? Where it is not, and is not listed either, just-in-time loading is off.

    With *has_grace* the policy gives calls the time that loading takes, and has it loaded.
    """
    if state.loaded:
        return ok(f"{state.id} is loaded")
    if has_grace:
        return ok(f"{state.id} is not loaded: the first call has it loaded, as lm_studio.cold_start says")
    if not is_listed:
        return failed(
            f"{state.id} is not loaded, and just-in-time loading is off",
            f"load it (`lms load {state.id}`, or in the developer page), or turn on just-in-time loading",
        )
    return warning(
        f"{state.id} is not loaded: the first call waits until it is",
        f"load it before (`lms load {state.id}`), or give the first call the time with lm_studio.cold_start",
    )


def judge_context(length: int, max_tokens: int) -> Finding:
    """Do *max_tokens* of answer fit into a context of *length* tokens, with the prompt before them?"""
    message = f"the context has {length} tokens, the longest answer {max_tokens}"
    todo = "load the model with a longer context, or lower lm_studio.generation.max_tokens"
    if max_tokens >= length:
        return failed(f"{message}: no room is left for what is asked", todo)
    if length - max_tokens < _PROMPT_TOKENS:
        return warning(f"{message}: {length - max_tokens} are left for prompt and picture", todo)
    return ok(message)


def state_of(model: str, states: Iterable[ModelState]) -> ModelState | None:
    """What LM Studio says of *model*; of several that go by the name, of one that is loaded."""
    found = [state for state in states if is_same_model(state.id, model)]
    return next((state for state in found if state.loaded), found[0] if found else None)


def is_among(model: str, names: Iterable[str]) -> bool:
    """True if one of *names* means *model*."""
    return any(is_same_model(name, model) for name in names)
