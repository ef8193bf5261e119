"""The words for what loading a policy finds by itself. None of it can be ignored: such a policy never starts."""

from __future__ import annotations

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.rule import Rule
from pixel_llm.policy.lint.samples import chat

_GOOD = "targets: {billing.charge: {deadline: 30s, timeout: 10s}}"


def _basic(rule_id: str, name: str, why: str, mend: str, bad: str, good: str = _GOOD) -> Rule:
    return Rule(id=rule_id, name=name, severity=ProblemSeverity.ERROR, why=why, mend=mend, bad=bad, good=good)


RULES = (
    _basic(
        "PL001",
        "The file can't be read",
        "It is not there, is no UTF-8 text or no YAML, holds several documents or keys that stand twice, uses tags, or "
        "is larger or deeper than any policy should be (1 MiB, 40 levels, 200,000 values).",
        "Mend the place that the message names.",
        "targets: {billing.charge: {deadline: 30s}}\ntargets: {}",
    ),
    _basic(
        "PL002",
        "An unquoted value that YAML 1.1 and YAML 1.2 read differently",
        "`on`, `yes`, `012`, `1:30` or `1_000` is one thing to this program and another to half of the world's editors "
        "and servers. It is reported rather than guessed.",
        "Write `true` or `false`, write the number plainly, or quote the text.",
        "logging: {console: yes}",
        "logging: {console: true}",
    ),
    _basic(
        "PL003",
        "The schema is not met",
        "A key is not known, a value has the wrong type or is outside its bounds, or something is missing.",
        "Mend the place that the message names; editors show the same while you type, from the modeline's schema.",
        "targets: {billing.charge: {deadline: 30}}",
    ),
    _basic(
        "PL004",
        "`extends` leads nowhere",
        "A parent does not exist, the profiles extend each other in a circle, or there are more than 20 in a line.",
        "Name a profile that `pixel-llm policy list` shows.",
        "extends: prodution",
        "extends: production",
    ),
    _basic(
        "PL005",
        "A variable can't be used",
        "It is not set and there is no default, what it holds is not what is wanted at this place, or it is named "
        "like a secret although only `lm_studio.api_key` keeps one.",
        "Set it, give a default with `${NAME:-…}`, or supply it with `--env-file`.",
        "lm_studio: {model: '${PIXEL_LLM_RULE_PAGE}'}",
        "lm_studio: {model: '${PIXEL_LLM_RULE_PAGE:-qwen2.5-vl-7b-instruct}'}",
    ),
    _basic(
        "PL006",
        "A template is not there",
        "A target names a template that is not defined for this layer.",
        "Define it under `templates`, or mend the name.",
        "targets: {billing.charge: {retry: patient, idempotent: true}}",
        "templates: {retry: {patient: {max_attempts: 5}}}\n"
        "targets: {billing.charge: {retry: patient, idempotent: true}}",
    ),
    _basic(
        "PL010",
        "A target that the system does not have",
        "`pixel_llm.`, `encoder.` and `lm_studio.` are the system's own prefixes; a misspelt name there would leave "
        "the real target unguarded.",
        "Use one of the names that the message lists, or another prefix for a target of your own.",
        "targets: {lm_studio.modles: {deadline: 30s}}",
        "targets: {lm_studio.models: {deadline: 30s}}",
    ),
    _basic(
        "PL011",
        "A target of your own retries without saying whether that is safe",
        "Nobody but you knows whether the call may be made twice. Charging a card may not.",
        "Say `idempotent: true`, or `idempotent: false` to retry only what was never sent.",
        "targets: {billing.charge: {retry: {max_attempts: 3}}}",
        "targets: {billing.charge: {retry: {max_attempts: 3}, idempotent: false}}",
    ),
    _basic(
        "PL012",
        "The longest wait is shorter than the first",
        "`max_delay` caps every wait, so `initial_delay` would never be waited.",
        "Raise `max_delay` or lower `initial_delay`.",
        chat("retry: {initial_delay: 10s, max_delay: 5s}"),
        chat("retry: {initial_delay: 5s, max_delay: 10s}"),
    ),
    _basic(
        "PL026",
        "A fallback to a target that is not there",
        "The step could never serve: nothing has this name.",
        "Name a target of this policy, or one of the system's.",
        "targets: {billing.charge: {deadline: 30s, fallback: [{target: billing.chrage-later}]}}",
        "targets:\n  billing.charge: {deadline: 30s, timeout: 9s, fallback: [{target: billing.later, reserve: 5s}]}\n"
        "  billing.later: {deadline: 5s, timeout: 5s}",
    ),
    _basic(
        "PL027",
        "Fallbacks that go round in a circle",
        "Each target would stand in for the other, until the deadline.",
        "Leave out one of the steps that the message names.",
        "targets:\n  a.one: {deadline: 30s, fallback: [{target: a.two, reserve: 5s}]}\n"
        "  a.two: {deadline: 30s, fallback: [{target: a.one, reserve: 5s}]}",
        "targets:\n  a.one: {deadline: 30s, timeout: 9s, fallback: [{target: a.two, reserve: 5s}]}\n"
        "  a.two: {deadline: 5s, timeout: 5s}",
    ),
    _basic(
        "PL028",
        "Time is kept for a step that takes none",
        "`cache`, `default_value`, `none` and `raise` serve at once, also when the deadline has passed. What is kept "
        "for them is only taken from the call.",
        "Leave `reserve` out.",
        "targets: {pixel_llm.generate: {deadline: 60s, fallback: [{default_value: Sorry, reserve: 5s}]}}",
        "targets: {pixel_llm.generate: {deadline: 60s, fallback: [{default_value: Sorry}]}}",
    ),
    _basic(
        "PL029",
        "Another model or endpoint for what asks none",
        "Of the system's targets only `lm_studio.chat` sends a request that can go to another model or server.",
        "Give the step to `lm_studio.chat`.",
        "targets: {pixel_llm.generate: {deadline: 60s, fallback: [{model: small, reserve: 5s}]}}",
        "targets:\n  pixel_llm.generate: {deadline: 60s}\n"
        "  lm_studio.chat: {deadline: 50s, fallback: [{model: small, reserve: 20s}]}",
    ),
    _basic(
        "PL014",
        "A base URL that can't be used",
        "Its port or host is missing or impossible, or something follows the path.",
        "Write it as `http://127.0.0.1:1234/v1`.",
        "lm_studio: {base_url: 'http://127.0.0.1:70000/v1'}",
        "lm_studio: {base_url: 'http://127.0.0.1:1234/v1'}",
    ),
    _basic(
        "PL013",
        "A second cache in a chain",
        "A target has one cache of results; a second step would read the same one.",
        "Keep one `cache` step.",
        "targets: {pixel_llm.generate: {fallback: [{cache: {ttl: 1m}}, {cache: {ttl: 1h}}]}}",
        "targets: {pixel_llm.generate: {fallback: [{cache: {ttl: 1h}}]}}",
    ),
    _basic(
        "PL015",
        "A retry budget is not there",
        "A target's `retry.budget` names a budget that `retry_budgets` does not have.",
        "Define it under `retry_budgets`, or mend the name.",
        chat("retry: {budget: shared}"),
        "retry_budgets: {shared: {ratio: 0.1}}\n" + chat("retry: {budget: shared}"),
    ),
    _basic(
        "PL022",
        "A rate limit that limits nothing",
        "Without `max_calls` and `tokens` a `rate_limit` section does nothing.",
        "Say how many calls may start in a period, or how many tokens they may use; or remove what is inherited with "
        "`rate_limit: null`.",
        chat("rate_limit: {period: 1s}"),
        chat("rate_limit: {max_calls: 10, period: 1s}"),
    ),
    _basic(
        "PL023",
        "An adaptive limit whose least is above its most",
        "An adaptive bulkhead moves between `min_limit` and `max_concurrent`.",
        "Lower `min_limit`, or raise `max_concurrent`.",
        chat("bulkhead: {max_concurrent: 4, adaptive: {min_limit: 8}}"),
        chat("bulkhead: {max_concurrent: 16, adaptive: {min_limit: 2}}"),
    ),
    _basic(
        "PL024",
        "An adaptive limit that begins below its least",
        "The limit never is below `min_limit`, so it can't begin there.",
        "Raise `initial_limit`, or leave it out.",
        chat("bulkhead: {adaptive: {min_limit: 6, initial_limit: 2}}"),
        chat("bulkhead: {adaptive: {min_limit: 2, initial_limit: 6}}"),
    ),
    _basic(
        "PL030",
        "A hedge whose delay is not clear",
        "A hedge waits either a fixed `delay`, or what a `quantile` of the latest attempts took, between `min_delay` "
        "and `max_delay`.",
        "Keep one of `delay` and `quantile`, and the other settings only beside `quantile`.",
        "targets: {billing.list: {idempotent: true, hedge: {delay: 1s, quantile: 0.95}}}",
        "targets: {billing.list: {idempotent: true, bulkhead: {max_concurrent: 8}, hedge: {quantile: 0.95}}}",
    ),
    _basic(
        "PL031",
        "A hedge of what must not happen twice",
        "A hedge sends a second request while the first is still at work. Nobody but you knows whether that does harm; "
        "charging a card does.",
        "Say `idempotent: true` if calling twice does no harm, else leave the hedge out.",
        "targets: {billing.charge: {timeout: 9s, bulkhead: {max_concurrent: 8}, hedge: 1s}}",
        "targets: {billing.list: {idempotent: true, timeout: 9s, bulkhead: {max_concurrent: 8}, hedge: 1s}}",
    ),
    _basic(
        "PL032",
        "Chaos that injects nothing",
        "A `chaos` section without `error`, `delay` and `result` does nothing.",
        "Say what it shall inject, or write `chaos: null` to remove what is inherited.",
        "targets: {billing.charge: {chaos: {seed: 7}}}",
        "targets: {billing.charge: {timeout: 5s, chaos: {delay: {rate: 0.1, duration: 2s}, seed: 7}}}",
    ),
    _basic(
        "PL033",
        "An injected result that its caller can't take",
        "The results of `pixel_llm.generate`, `encoder.load` and `lm_studio.models` are taken apart by their callers.",
        "Inject a text into `lm_studio.chat` or `encoder.forward`, or inject errors and delays.",
        "targets: {pixel_llm.generate: {chaos: {result: {rate: 0.1, value: A picture.}}}}",
        chat("chaos: {result: {rate: 0.1, value: A picture.}}"),
    ),
    _basic(
        "PL040",
        "An encoder without its weights",
        "`vit` is nothing without a checkpoint, and `transformers` nothing without a model's folder. Random weights "
        "would give random features.",
        "Say where they are, or use `type: patch`, which needs none.",
        "encoder: {type: vit}",
        "encoder: {type: vit, checkpoint: models/vit.safetensors}",
    ),
    _basic(
        "PL041",
        "Numbers that the encoder can't compute with",
        "`patch` measures in float32, since its formulas lose their meaning in less. float16 on a CPU saves no time, "
        "and overflows.",
        "Leave `dtype` out, or take `bfloat16` for a model on the CPU.",
        "encoder: {type: vit, checkpoint: models/vit.safetensors, device: cpu, dtype: float16}",
        "encoder: {type: vit, checkpoint: models/vit.safetensors, device: cpu, dtype: bfloat16}",
    ),
    _basic(
        "PL042",
        "A server that is listed twice",
        "Each server has a breaker, limits and a turn of its own. Listed twice it would be asked twice in a row when "
        "it fails, and get twice the load.",
        "List each server once.",
        "lm_studio: {endpoints: [{base_url: 'http://127.0.0.1:1234/v1'}, {base_url: 'http://127.0.0.1:1234/v1/'}]}",
        "lm_studio: {endpoints: [{base_url: 'http://127.0.0.1:1234/v1'}, {base_url: 'http://127.0.0.1:1235/v1'}]}",
    ),
)
