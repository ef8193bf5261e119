"""Where findings stand that are about several settings: at the one that a file lays over the others."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from pixel_llm.policy.checking import check_files
from pixel_llm.policy.lint import find_rule

#: (rule, the setting of its bad sample that a file lays over its parent, which says all the others, where it is found)
PLACES = [
    ("PL101", "targets.billing.charge.deadline", "targets.billing.charge.deadline"),
    ("PL101", "targets.billing.charge.timeout", "targets.billing.charge.timeout.attempt"),
    ("PL103", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL103", "targets.lm_studio.chat.timeout", "targets.lm_studio.chat.timeout.attempt"),
    ("PL103", "targets.lm_studio.chat.retry.max_attempts", "targets.lm_studio.chat.retry.max_attempts"),
    ("PL104", "targets.lm_studio.chat.timeout.attempt", "targets.lm_studio.chat.timeout.attempt"),
    ("PL104", "targets.lm_studio.chat.timeout.connect", "targets.lm_studio.chat.timeout.connect"),
    ("PL105", "targets.pixel_llm.generate.deadline", "targets.pixel_llm.generate.deadline"),
    ("PL105", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL106", "targets.pixel_llm.generate.deadline", "targets.pixel_llm.generate.deadline"),
    ("PL106", "targets.encoder.forward.deadline", "targets.encoder.forward.deadline"),
    ("PL106", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL107", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL107", "targets.lm_studio.chat.retry.retry_after_max", "targets.lm_studio.chat.retry.retry_after_max"),
    ("PL108", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL108", "targets.lm_studio.chat.retry.initial_delay", "targets.lm_studio.chat.retry.initial_delay"),
    ("PL208", "targets.billing.charge.idempotent", "targets.billing.charge.idempotent"),
    ("PL208", "targets.billing.charge.retry.retry_on", "targets.billing.charge.retry.retry_on"),
    ("PL212", "targets.lm_studio.chat.retry.budget.ratio", "targets.lm_studio.chat.retry.budget.ratio"),
    ("PL212", "targets.lm_studio.chat.retry.budget.min_retries", "targets.lm_studio.chat.retry.budget.min_retries"),
    ("PL214", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL214", "targets.lm_studio.chat.retry.wait_for_breaker", "targets.lm_studio.chat.retry.wait_for_breaker"),
    ("PL214", "targets.lm_studio.chat.circuit_breaker.cooldown", "targets.lm_studio.chat.circuit_breaker.cooldown"),
    ("PL216", "targets.billing.charge.idempotent", "targets.billing.charge.idempotent"),
    ("PL216", "targets.billing.charge.retry.retry_on_result", "targets.billing.charge.retry.retry_on_result"),
    ("PL301", "targets.lm_studio.chat.retry.max_attempts", "targets.lm_studio.chat.retry.max_attempts"),
    (
        "PL301",
        "targets.lm_studio.chat.circuit_breaker.failure_threshold",
        "targets.lm_studio.chat.circuit_breaker.failure_threshold",
    ),
    ("PL303", "targets.lm_studio.chat.retry.initial_delay", "targets.lm_studio.chat.retry.initial_delay"),
    ("PL303", "targets.lm_studio.chat.circuit_breaker.cooldown", "targets.lm_studio.chat.circuit_breaker.cooldown"),
    ("PL315", "targets.lm_studio.chat.timeout", "targets.lm_studio.chat.timeout.attempt"),
    (
        "PL315",
        "targets.lm_studio.chat.circuit_breaker.half_open_max_wait",
        "targets.lm_studio.chat.circuit_breaker.half_open_max_wait",
    ),
    ("PL316", "targets.lm_studio.chat.timeout", "targets.lm_studio.chat.timeout.attempt"),
    (
        "PL316",
        "targets.lm_studio.chat.circuit_breaker.slow_call_duration",
        "targets.lm_studio.chat.circuit_breaker.slow_call_duration",
    ),
    ("PL403", "targets.pixel_llm.generate.fallback", "targets.pixel_llm.generate.fallback[0].cache.ttl"),
    ("PL403", "targets.lm_studio.chat.circuit_breaker.cooldown", "targets.lm_studio.chat.circuit_breaker.cooldown"),
    ("PL413", "targets.shop.pay.deadline", "targets.shop.pay.deadline"),
    ("PL413", "targets.shop.pay.fallback", "targets.shop.pay.fallback[0].reserve"),
    ("PL415", "targets.shop.pay.cache.ttl", "targets.shop.pay.cache"),
    ("PL415", "targets.shop.pay.idempotent", "targets.shop.pay.idempotent"),
    ("PL416", "targets.shop.prices.cache.ttl", "targets.shop.prices.cache.ttl"),
    ("PL416", "targets.shop.prices.fallback", "targets.shop.prices.fallback[0].cache.ttl"),
    ("PL607", "lm_studio.generation.temperature", "lm_studio.generation.temperature"),
    ("PL607", "lm_studio.generation.top_p", "lm_studio.generation.top_p"),
    ("PL609", "lm_studio.image.format", "lm_studio.image.format"),
    ("PL609", "lm_studio.image.quality", "lm_studio.image.quality"),
    ("PL610", "lm_studio.vision", "lm_studio.vision"),
    ("PL610", "lm_studio.without_vision", "lm_studio.without_vision"),
    ("PL613", "lm_studio.health.interval", "lm_studio.health.interval"),
    ("PL613", "lm_studio.health.timeout", "lm_studio.health.timeout"),
    ("PL614", "lm_studio.cold_start.grace", "lm_studio.cold_start.grace"),
    ("PL614", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL801", "targets.lm_studio.chat.deadline", "targets.lm_studio.chat.deadline"),
    ("PL801", "targets.lm_studio.chat.bulkhead.max_wait", "targets.lm_studio.chat.bulkhead.max_wait"),
    ("PL802", "targets.billing.charge.bulkhead.max_concurrent", "targets.billing.charge.bulkhead"),
    ("PL802", "targets.billing.charge.bulkhead.max_waiting", "targets.billing.charge.bulkhead"),
    (
        "PL804",
        "targets.lm_studio.chat.circuit_breaker.half_open_max_calls",
        "targets.lm_studio.chat.circuit_breaker.half_open_max_calls",
    ),
    ("PL804", "targets.lm_studio.chat.bulkhead.max_concurrent", "targets.lm_studio.chat.bulkhead.max_concurrent"),
    ("PL805", "targets.lm_studio.chat.retry.max_attempts", "targets.lm_studio.chat.retry.max_attempts"),
    ("PL805", "targets.lm_studio.chat.rate_limit.max_calls", "targets.lm_studio.chat.rate_limit.max_calls"),
    ("PL806", "targets.lm_studio.chat.rate_limit.max_calls", "targets.lm_studio.chat.rate_limit.max_calls"),
    ("PL806", "targets.lm_studio.chat.bulkhead.max_concurrent", "targets.lm_studio.chat.bulkhead.max_concurrent"),
    ("PL820", "targets.billing.list.timeout", "targets.billing.list.timeout.attempt"),
    ("PL820", "targets.billing.list.hedge", "targets.billing.list.hedge.delay"),
    ("PL842", "targets.billing.charge.timeout", "targets.billing.charge.timeout.attempt"),
    ("PL842", "targets.billing.charge.chaos.delay.duration", "targets.billing.charge.chaos.delay.duration"),
    ("PL860", "targets.writer.write.timeout.attempt", "targets.writer.write.timeout.attempt"),
    ("PL860", "targets.writer.write.timeout.first_token", "targets.writer.write.timeout.first_token"),
    ("PL861", "targets.writer.write.deadline", "targets.writer.write.deadline"),
    ("PL861", "targets.writer.write.timeout.idle", "targets.writer.write.timeout.idle"),
    ("PL863", "targets.writer.write.timeout.first_token", "targets.writer.write.timeout"),
    ("PL863", "targets.writer.write.timeout.idle", "targets.writer.write.timeout"),
    ("PL880", "encoder.type", "encoder.type"),
    ("PL880", "encoder.labels", "encoder.labels"),
]


def without(document: Any, path: Sequence[str]) -> Any:
    rest = copy.deepcopy(document)
    section = rest
    for key in path[:-1]:
        section = section[key]
    del section[path[-1]]
    return rest


def only(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document[key]
    for key in reversed(path):
        document = {key: document}
    return document


@pytest.mark.parametrize(("rule", "laid_over", "found_at"), PLACES)
def test_at_what_is_laid_over_the_rest(rule, laid_over, found_at, tmp_path):
    """
    Whoever lays the last of the settings over the others, which are right without it, reads of it in his file.
    """
    sample, path = yaml.safe_load(find_rule(rule).bad), laid_over.split(".")
    if path[0] == "targets":  # targets have dots in their names
        path = ["targets", next(name for name in sample["targets"] if laid_over.startswith(f"targets.{name}."))]
        path += laid_over.removeprefix(f"{'.'.join(path)}.").split(".")
    parent, child = tmp_path / "parent.yaml", tmp_path / "child.yaml"
    parent.write_text(json.dumps({"version": 1, "description": "All but one.", **without(sample, path)}))
    child.write_text(json.dumps({"version": 1, "description": "One.", "extends": "parent", **only(sample, path)}))
    problems = check_files([child], variables={}).problems

    assert [found_at] == [found.path for found in problems if found.rule == rule and found.place.file == str(child)]


def test_in_a_parent_rather_than_in_what_is_shipped(tmp_path):
    """
    What a parent of one's own lays over a shipped profile is found in that parent, whoever else extends it.
    """
    parent, child = tmp_path / "parent.yaml", tmp_path / "child.yaml"
    parent.write_text(
        "version: 1\ndescription: Quick.\nextends: basic\ntargets: {lm_studio.chat: {deadline: 50s, retry: null}}\n"
    )
    child.write_text("version: 1\ndescription: The same.\nextends: parent\n")
    problems = [found for found in check_files([child], variables={}).problems if found.rule == "PL101"]

    assert [f"{parent}:4:38"] == [str(found.place) for found in problems]
