from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixel_llm.errors import Problem, ProblemSeverity
from pixel_llm.policy import (
    PolicyConfig,
    TargetPolicy,
    TimeoutConfig,
    WindowConfig,
    load_policy_file,
    policy_files,
    shipped_folder,
)
from pixel_llm.policy.checking import check_files
from pixel_llm.policy.lint import RULES, Rule, find_rule

CHECKED = [rule for rule in RULES if rule.check is not None]

#: What else the samples break. None has a description, which is PL506.
OTHERS = {
    ("PL108", "bad"): {"PL202"},  # with jitter a wait may be 0, and every attempt begin
    ("PL108", "good"): {"PL202"},
    ("PL215", "bad"): {"PL405"},  # the whole call has no deadline either
    ("PL215", "good"): {"PL405"},
    ("PL505", "bad"): {"PL102"},
    ("PL903", "bad"): {"PL101"},
}

#: The whole text of what each rule's bad sample is told.
MESSAGES = {
    "PL101": (
        "policy.yaml:2:51: targets.billing.charge.timeout.attempt: warning: the timeout of 10s can never end an "
        "attempt: the deadline of 5s comes first [PL101]"
    ),
    "PL102": (
        "policy.yaml:2:38: targets.billing.charge.deadline: note: the deadline of 30s can't interrupt a plain sync "
        "function: add a timeout, unless the function is async or watches the time itself [PL102]"
    ),
    "PL103": (
        "policy.yaml:4:30: targets.lm_studio.chat.deadline: warning: 3 attempts of 30s and waits of 3s take 1m33s, "
        "longer than the deadline of 1m: raise it, or try less often [PL103]"
    ),
    "PL104": (
        "policy.yaml:4:52: targets.lm_studio.chat.timeout.connect: warning: connecting may take 5s, but the attempt "
        "ends after 5s: make it shorter, or leave it out [PL104]"
    ),
    "PL105": (
        "policy.yaml:4:30: targets.lm_studio.chat.deadline: warning: the deadline of lm_studio.chat, 30s, is never "
        "reached inside pixel_llm.generate, which ends after 10s [PL105]"
    ),
    "PL106": (
        "policy.yaml:3:34: targets.pixel_llm.generate.deadline: note: what pixel_llm.generate calls may take 50s "
        "(encoder.forward 20s + lm_studio.chat 30s), but it ends after 30s: the last of them may be cut short [PL106]"
    ),
    "PL107": (
        "policy.yaml:4:60: targets.lm_studio.chat.retry.retry_after_max: note: a Retry-After of 2m is never waited "
        "for: the deadline of 30s comes first [PL107]"
    ),
    "PL108": (
        "policy.yaml:4:30: targets.lm_studio.chat.deadline: warning: only 2 of 3 attempts can begin: the waits alone "
        "take 6s, and the deadline is 5s [PL108]"
    ),
    "PL110": (
        "policy.yaml:2:74: targets.billing.charge.timeout.max_abandoned_threads: warning: no thread is ever abandoned: "
        "only `attempt`, `first_token` and `idle` make calls leave one behind [PL110]"
    ),
    "PL201": (
        "policy.yaml:3:60: targets.pixel_llm.generate.retry.max_attempts: warning: one call of pixel_llm.generate "
        "can become 20 requests to LM Studio, more than 10: lower max_attempts (4 attempts, each with 5 of "
        "lm_studio.chat) [PL201]"
    ),
    "PL202": (
        "policy.yaml:4:36: targets.lm_studio.chat.retry.jitter: note: clients that fail together also return "
        "together: write `jitter: full`, unless there is only one [PL202]"
    ),
    "PL203": (
        "policy.yaml:4:42: targets.lm_studio.chat.retry.max_attempts: note: 1 attempt is no retry, so this section "
        "does nothing: leave it out, or write `retry: null` to remove what is inherited [PL203]"
    ),
    "PL204": (
        "policy.yaml:4:74: targets.lm_studio.chat.retry.backoff_multiplier: warning: has no effect with "
        "linear_backoff: leave it out, or use exponential_backoff [PL204]"
    ),
    "PL205": (
        "policy.yaml:2:73: targets.encoder.forward.retry.initial_delay: warning: has no effect with immediate, which "
        "never waits: leave it out, or use fixed_delay [PL205]"
    ),
    "PL206": (
        "policy.yaml:4:81: targets.lm_studio.chat.retry.max_delay: warning: has no effect with fixed_delay, where "
        "every wait is initial_delay: leave it out [PL206]"
    ),
    "PL207": (
        "policy.yaml:2:40: targets.billing.charge.idempotent: note: says whether the call may be made twice, but "
        "nothing makes it twice: leave it out, or add `retry` [PL207]"
    ),
    "PL208": (
        "policy.yaml:2:78: targets.billing.charge.retry.retry_on: warning: UNKNOWN has no effect with `idempotent: "
        "false`, which only retries errors that prove that nothing was sent [PL208]"
    ),
    "PL209": (
        "policy.yaml:3:60: targets.pixel_llm.generate.retry.max_attempts: note: two layers of retries multiply to 6 "
        "requests (2 attempts, each with 3 of lm_studio.chat): retry in one of them [PL209]"
    ),
    "PL210": (
        "policy.yaml:4:70: targets.lm_studio.chat.retry.backoff_multiplier: warning: has no effect with `jitter: "
        "decorrelated`, which makes each wait out of the one before: leave it out, or use another jitter [PL210]"
    ),
    "PL211": "policy.yaml:2:17: retry_budgets.lm_studio: warning: no target that retries uses this budget [PL211]",
    "PL212": (
        "policy.yaml:4:44: targets.lm_studio.chat.retry.budget.ratio: warning: this budget allows no retry at all: "
        "raise ratio or min_retries, or leave out the retries [PL212]"
    ),
    "PL213": (
        "policy.yaml:4:60: targets.lm_studio.chat.retry.wait_for_breaker: warning: there is no circuit_breaker that "
        "refuses calls: add one, or leave this out [PL213]"
    ),
    "PL214": (
        "policy.yaml:4:61: targets.lm_studio.chat.retry.wait_for_breaker: warning: a call can hardly wait for the "
        "breaker: its cooldown is 1m, and the deadline of 30s comes first [PL214]"
    ),
    "PL215": (
        "policy.yaml:2:54: targets.lm_studio.chat.retry.wait_for_breaker: warning: nothing ends the waiting for a "
        "breaker that opens again and again: give the target a deadline [PL215]"
    ),
    "PL216": (
        "policy.yaml:2:85: targets.billing.charge.retry.retry_on_result: note: a result proves that the call was made, "
        "so with `idempotent: false` one that is rejected fails at once, without another attempt [PL216]"
    ),
    "PL301": (
        "policy.yaml:4:83: targets.lm_studio.chat.circuit_breaker.failure_threshold: warning: 3 failures open the "
        "breaker, and one call alone makes up to 5: raise failure_threshold above 5 [PL301]"
    ),
    "PL302": (
        "policy.yaml:4:45: targets.lm_studio.chat.circuit_breaker.count: warning: the breaker never opens: no "
        "attempt of lm_studio.chat ends with DEGRADATION [PL302]"
    ),
    "PL303": (
        "policy.yaml:4:77: targets.lm_studio.chat.circuit_breaker.cooldown: warning: the cooldown of 5s is shorter "
        "than the first wait of 10s: the retries alone hold back more than the breaker does [PL303]"
    ),
    "PL304": (
        "policy.yaml:2:45: targets.billing.charge.circuit_breaker: note: an attempt that gets no answer never ends, "
        "so silence never opens the breaker: add a timeout [PL304]"
    ),
    "PL310": (
        "policy.yaml:4:53: targets.lm_studio.chat.circuit_breaker.minimum_calls: warning: has no effect without a "
        "rate: leave it out, or add failure_rate or slow_call_rate [PL310]"
    ),
    "PL311": (
        "policy.yaml:3:52: targets.lm_studio.chat.circuit_breaker.mode: warning: policy builds on production but has "
        "a breaker that only watches, and refuses nobody: use enabled [PL311]"
    ),
    "PL312": (
        "policy.yaml:4:44: targets.lm_studio.chat.circuit_breaker.mode: note: with mode disabled the other settings "
        "of this breaker (failure_threshold) do nothing [PL312]"
    ),
    "PL313": (
        "policy.yaml:4:59: targets.lm_studio.chat.circuit_breaker.cooldown_multiplier: warning: the cooldown grows "
        "without end, to 8h32m after the 10th opening: add max_cooldown [PL313]"
    ),
    "PL314": (
        "policy.yaml:4:52: targets.lm_studio.chat.circuit_breaker.max_cooldown: warning: has no effect, as the "
        "cooldown does not grow: leave it out, or add cooldown_multiplier [PL314]"
    ),
    "PL315": (
        "policy.yaml:4:72: targets.lm_studio.chat.circuit_breaker.half_open_max_wait: warning: trial calls are given "
        "up after 10s, but may take 30s: the breaker would open again without having waited for them; raise "
        "half_open_max_wait [PL315]"
    ),
    "PL316": (
        "policy.yaml:4:93: targets.lm_studio.chat.circuit_breaker.slow_call_duration: warning: no attempt succeeds "
        "after 30s, as it ends after 30s: make slow_call_duration shorter [PL316]"
    ),
    "PL317": (
        "policy.yaml:4:48: targets.lm_studio.chat.circuit_breaker.max_keys: warning: has no effect where the target "
        "has one breaker: leave it out, or say what it is for with per [PL317]"
    ),
    "PL401": (
        "policy.yaml:2:67: targets.pixel_llm.generate.fallback[1]: warning: never serves: step 1, default_value, "
        "always ends the chain before; put it first, or leave it out [PL401]"
    ),
    "PL402": (
        "policy.yaml:4:45: targets.pixel_llm.generate.fallback[0].when: warning: PERMANENT would hide a mistake in "
        "the set-up, such as a wrong key, behind the default_value step: leave it to be raised [PL402]"
    ),
    "PL403": (
        "policy.yaml:3:49: targets.pixel_llm.generate.fallback[0].cache.ttl: warning: results are kept for 30s, but "
        "the breaker of lm_studio.chat stays open for 1m: the cache is empty when it is needed most; raise ttl "
        "[PL403]"
    ),
    "PL404": (
        "policy.yaml:2:57: targets.pixel_llm.generate.fallback: note: raising is what happens without a fallback, "
        "and there is none to replace: leave it out [PL404]"
    ),
    "PL405": (
        "policy.yaml:2:11: targets.lm_studio.chat: warning: pixel_llm.generate has neither a deadline nor a "
        "fallback: who asks for a caption may wait without end and get an error then; give it one of them [PL405]"
    ),
    "PL411": (
        "policy.yaml:2:46: targets.shop.pay.fallback[0]: warning: the custom function step takes time, and "
        "shop.pay has no deadline: who waits for the call waits for the step as well; give the target a deadline "
        "[PL411]"
    ),
    "PL412": (
        "policy.yaml:2:62: targets.shop.pay.fallback[0]: warning: the attempts may use up the whole deadline of "
        "30s, and nothing is left for the custom function step then: keep some of it with reserve [PL412]"
    ),
    "PL413": (
        "policy.yaml:3:90: targets.shop.pay.fallback[0].reserve: warning: 5s are kept for the fallback, and the "
        "deadline is 5s: the call itself would never be made; keep less [PL413]"
    ),
    "PL414": (
        "policy.yaml:5:39: targets.lm_studio.chat.fallback[0].model: warning: big is the model that has just "
        "failed: name another one, or try again with retry [PL414]"
    ),
    "PL415": (
        "policy.yaml:2:29: targets.shop.pay.cache: warning: shop.pay is not idempotent: each of its calls is meant"
        " to happen, but with a cache an equal one doesn't; leave the cache out [PL415]"
    ),
    "PL416": (
        "policy.yaml:2:68: targets.shop.prices.fallback[0].cache.ttl: note: the fallback keeps results for 1m, the"
        " cache before it for 5m: what the one has, the other has given already; raise the ttl [PL416]"
    ),
    "PL501": (
        "policy.yaml:2:21: templates.retry.patient: warning: no target takes this template: write `retry: patient` "
        "where it is meant, or leave it out [PL501]"
    ),
    "PL502": (
        "policy.yaml:2:11: targets.lmstudio.chat: warning: the system never calls 'lmstudio.chat', so this guards "
        'nothing of it; did you mean "lm_studio.chat"? [PL502]'
    ),
    "PL503": (
        "policy.yaml:3:37: targets.billing.charge.timeout: note: line 2 of this file says the same already: "
        "leave it out [PL503]"
    ),
    "PL504": "policy.yaml:3:20: logging.console: note: is the language's default anyway: leave it out [PL504]",
    "PL505": (
        "policy.yaml:2:37: targets.billing.charge.timeout: note: is empty and changes nothing: leave it out [PL505]"
    ),
    "PL506": "policy.yaml:1:1: note: does not say what it is for: add a `description`, in a sentence [PL506]",
    "PL507": (
        "policy.yaml:3:33: targets.encoder.load.retry: warning: null removes what is inherited, and nothing is "
        "inherited here: leave it out [PL507]"
    ),
    "PL508": (
        "policy.yaml:4:45: targets.lm_studio.chat.circuit_breaker.count: note: ERR_CONN_REFUSED is one of TRANSIENT "
        "anyway: leave it out [PL508]"
    ),
    "PL509": (
        "policy.yaml:2:23: extends[1]: warning: production builds on basic itself; naming it again undoes what that "
        "one changes: leave it out [PL509]"
    ),
    "PL601": (
        "policy.yaml:2:22: lm_studio.api_key: the key is written out here, for everybody who sees it: write "
        "${LM_STUDIO_API_KEY}, and set that variable instead"
    ),
    "PL602": (
        "policy.yaml:2:23: lm_studio.base_url: the address holds a user name or a password, which addresses in logs "
        "and messages would carry on: leave them out, and use api_key"
    ),
    "PL603": (
        "policy.yaml:2:23: lm_studio.base_url: warning: the key goes to 10.0.0.5 unencrypted, and everybody on the "
        "way can read it: use https [PL603]"
    ),
    "PL604": (
        "policy.yaml:2:23: lm_studio.base_url: note: localhost is often tried as ::1 first, where LM Studio does not "
        "listen: write 127.0.0.1, which saves that [PL604]"
    ),
    "PL605": (
        "policy.yaml:2:23: lm_studio.base_url: warning: the path must end in /v1, where the API starts (got "
        "nothing): every call would be a 404 [PL605]"
    ),
    "PL606": (
        "policy.yaml:3:1: encoder: note: has no effect with `vision: image`, which sends the picture itself and "
        "never calls the encoder [PL606]"
    ),
    "PL607": (
        "policy.yaml:2:49: lm_studio.generation.top_p: note: top_p has no effect with `temperature: 0`, which always "
        "takes the likeliest word: leave one of them out [PL607]"
    ),
    "PL608": (
        "policy.yaml:2:34: lm_studio.image: note: has no effect with `vision: description`, which never sends the "
        "picture itself [PL608]"
    ),
    "PL609": (
        "policy.yaml:2:43: lm_studio.image.quality: note: quality has no effect with `format: png`, which keeps every "
        "pixel: leave one of them out [PL609]"
    ),
    "PL610": (
        "policy.yaml:2:50: lm_studio.without_vision: note: without_vision has no effect with `vision: description`, "
        "which sends no image: leave one of them out [PL610]"
    ),
    "PL611": (
        "policy.yaml:2:23: lm_studio.base_url: warning: base_url has no effect beside endpoints, each of which has its "
        "own [PL611]"
    ),
    "PL612": (
        "policy.yaml:2:22: lm_studio.balance: note: balance has no effect with one server: name several under "
        "endpoints, or leave it out [PL612]"
    ),
    "PL613": (
        "policy.yaml:2:122: lm_studio.health.interval: warning: a look at one server may take 5s, longer than the 2s "
        "until the next one: make timeout the shorter one [PL613]"
    ),
    "PL614": (
        "policy.yaml:2:33: lm_studio.cold_start.grace: warning: no call can wait for 1m: the deadline of "
        "lm_studio.chat is 30s, and the answer must come in it, too [PL614]"
    ),
    "PL701": (
        "policy.yaml:3:18: logging.level: warning: policy builds on production but logs at DEBUG, which buries what "
        "matters: use INFO [PL701]"
    ),
    "PL702": (
        "policy.yaml:3:24: logging.log_content: policy builds on production but writes every prompt and caption into "
        "the log: use redacted"
    ),
    "PL703": (
        "policy.yaml:2:36: logging.rotation: warning: has no effect: there is no `file` that it could turn over [PL703]"
    ),
    "PL704": (
        "policy.yaml:4:17: logging.file: warning: policy builds on production but writes a log that grows until the "
        "disk is full: add `rotation` [PL704]"
    ),
    "PL705": (
        "policy.yaml:2:20: logging.levels.bilingl.charge: warning: no target is called 'bilingl.charge', so that this "
        'is the level of a logger of that name alone; did you mean "billing.charge"? [PL705]'
    ),
    "PL706": (
        "policy.yaml:2:52: logging.levels.lm_studio.chat: note: WARNING is what level says anyway: leave it out [PL706]"
    ),
    "PL801": (
        "policy.yaml:4:72: targets.lm_studio.chat.bulkhead.max_wait: warning: a call that waits 30s has no time left: "
        "the deadline is 10s [PL801]"
    ),
    "PL802": (
        "policy.yaml:2:38: targets.billing.charge.bulkhead: warning: nothing ends the wait for a slot: add max_wait, "
        "or a deadline [PL802]"
    ),
    "PL803": (
        "policy.yaml:4:60: targets.lm_studio.chat.bulkhead.max_wait: warning: nobody waits for a slot, since "
        "max_waiting is 0: raise it, or leave max_wait out [PL803]"
    ),
    "PL804": (
        "policy.yaml:4:59: targets.lm_studio.chat.circuit_breaker.half_open_max_calls: warning: of 5 trial calls "
        "only 2 can be under way: the bulkhead has no more slots [PL804]"
    ),
    "PL805": (
        "policy.yaml:4:70: targets.lm_studio.chat.rate_limit.max_calls: warning: one call makes up to 3 attempts, but "
        "only 1 may start in 10s, and none waits: its own retries are refused [PL805]"
    ),
    "PL806": (
        "policy.yaml:4:100: targets.lm_studio.chat.bulkhead.max_concurrent: note: never more than 4 calls are under "
        "way: so many start within the timeout of 1s, and the bulkhead has 50 slots [PL806]"
    ),
    "PL807": (
        "policy.yaml:2:49: targets.billing.charge.rate_limit.tokens: note: results that don't say themselves what they "
        "used are not counted: name a usage function [PL807]"
    ),
    "PL820": (
        "policy.yaml:2:95: targets.billing.list.hedge.delay: warning: no other attempt is ever sent: the attempt ends "
        "after 5s, before the delay of 10s [PL820]"
    ),
    "PL821": (
        "policy.yaml:2:64: targets.billing.list.hedge: note: when the server is slow every call sends its request "
        "twice, which makes it slower: add a `bulkhead` or a `rate_limit`, which let others in only while there is "
        "room [PL821]"
    ),
    "PL822": (
        "policy.yaml:4:72: targets.lm_studio.chat.hedge: note: a single LM Studio on this machine works on both "
        "attempts, and longer on each [PL822]"
    ),
    "PL840": (
        "policy.yaml:3:35: targets.lm_studio.chat.chaos: policy builds on production but injects faults into "
        "lm_studio.chat: write `chaos: null` here"
    ),
    "PL841": (
        "policy.yaml:2:63: targets.billing.charge.chaos.error.rate: warning: with a rate of 0 no error is ever "
        "injected [PL841]"
    ),
    "PL842": (
        "policy.yaml:2:78: targets.billing.charge.chaos.delay.duration: note: every delayed attempt fails without the "
        "call being made: the timeout of 5s ends the delay of 10s [PL842]"
    ),
    "PL860": (
        "policy.yaml:2:63: targets.writer.write.timeout.first_token: warning: the first content of a stream may take "
        "30s, longer than a whole answer, which may take 10s: make it shorter, or leave it out [PL860]"
    ),
    "PL861": (
        "policy.yaml:2:74: targets.writer.write.timeout.idle: warning: the idle of 2m can never end a stream: the "
        "deadline of 1m comes first [PL861]"
    ),
    "PL862": (
        "policy.yaml:2:42: targets.writer.write.timeout.idle: warning: nothing bounds the time to the first content "
        "of a stream: add first_token, or attempt [PL862]"
    ),
    "PL863": (
        "policy.yaml:2:76: targets.writer.write.timeout: note: a consumer that lets a stream lie keeps what it holds, "
        "such as the permit of a half-open breaker, for as long as it likes: add max_pause [PL863]"
    ),
    "PL864": (
        "policy.yaml:2:68: targets.writer.write.cache: note: the target's timeout speaks of streams, which "
        "pass cache by: it is for other calls only [PL864]"
    ),
    "PL880": (
        "policy.yaml:2:32: encoder.labels: warning: labels has no effect with type patch, only with transformers: "
        "leave it out [PL880]"
    ),
    "PL881": (
        "policy.yaml:2:37: encoder.on_out_of_memory[1]: warning: halve is never reached: raise ends the list before "
        "it [PL881]"
    ),
    "PL901": (
        "policy.yaml:2:47: warning: the ignore comment: says no reason: write `# pixel-llm: ignore PL101 -- why` "
        "[PL901]"
    ),
    "PL902": (
        "policy.yaml:2:48: warning: the ignore comment: PL101 is not found here, so there is nothing to ignore [PL902]"
    ),
    "PL903": (
        "policy.yaml:2:47: warning: the ignore comment: is not understood: write `# pixel-llm: ignore PL101 -- why` "
        "[PL903]"
    ),
}


def problems_of(folder: Path, text: str, *, file: str = "policy.yaml") -> list[Problem]:
    """What is found in *text*; not in what it extends."""
    path = folder / file
    path.write_text(f"version: 1\n{text}\n", "utf-8")
    problems = check_files([path], variables={}).problems
    return [problem for problem in problems if problem.place.file == str(path)]


def found(folder: Path, text: str, rule: str, **more: str) -> list[str]:
    """The places and messages of *rule* in *text*."""
    return [said(folder, problem) for problem in problems_of(folder, text, **more) if problem.rule == rule]


def said(folder: Path, problem: Problem) -> str:
    return str(problem).replace(f"{folder}/", "")


class TestCatalogue:
    def test_ids_are_sorted_and_unique(self):
        """
        Each rule has an id of its own, and they stand in order.
        """
        ids = [rule.id for rule in RULES]

        assert sorted(set(ids)) == ids

    def test_finds_rules_by_id(self):
        """
        A rule is found by its id; an unknown one is None.
        """
        assert RULES[0] is find_rule(RULES[0].id)
        assert find_rule("PL000") is None

    def test_there_are_many(self):
        """
        At least thirty rules look at valid policies.
        """
        assert len(CHECKED) >= 30

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
    def test_every_rule_has_its_words(self, rule):
        """
        A page can be made of each rule: a heading, sentences, and samples that differ.
        """
        assert rule.name == rule.name.strip(" .") != ""
        assert rule.why.endswith((".", ")"))
        assert rule.mend.endswith(".")
        assert rule.bad != rule.good


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
class TestSamples:
    def test_bad_breaks_the_rule(self, rule: Rule, tmp_path):
        """
        The bad sample is found by its rule, and by no other than those that are known.
        """
        problems = problems_of(tmp_path, rule.bad)
        expected = {rule.id, *OTHERS.get((rule.id, "bad"), ())}

        assert expected == {problem.rule for problem in problems} - ({"PL506"} - {rule.id})
        assert {rule.severity} == {problem.severity for problem in problems if problem.rule == rule.id}

    def test_good_does_not(self, rule: Rule, tmp_path):
        """
        The good sample is found by no rule but those that are known.
        """
        expected = OTHERS.get((rule.id, "good"), set())

        assert expected == {problem.rule for problem in problems_of(tmp_path, rule.good)} - {"PL506"}


class TestMessages:
    @pytest.mark.parametrize("rule", [rule for rule in RULES if rule.id in MESSAGES], ids=lambda rule: rule.id)
    def test_word_for_word(self, rule: Rule, tmp_path):
        """
        What the bad sample is told, with its place.
        """
        assert [MESSAGES[rule.id]] == found(tmp_path, rule.bad, rule.id)

    def test_none_is_forgotten(self):
        """
        The messages of all rules are there, but for what loading finds: tests/policies/invalid pins that.
        """
        assert sorted(MESSAGES) == [rule.id for rule in RULES if not rule.id.startswith("PL0")]


class TestLogging:
    @pytest.mark.parametrize(
        ("logging", "said"),
        [
            ("console: true, rotation: {}", "there is no `file` that it could turn over"),
            ("file: a.log, format: console", "only the console is written so, and there is none: add `console: true`"),
            ("queue_size: 500", "nothing waits without `file` or `console`"),
        ],
    )
    def test_without_effect(self, tmp_path, logging, said):
        """
        Each setting needs the sink that it is about.
        """
        (problem,) = found(tmp_path, f"logging: {{{logging}}}", "PL703")

        assert f"has no effect: {said}" in problem

    def test_a_single_target_at_debug_in_production(self, tmp_path):
        """
        DEBUG for one target is told like DEBUG for all.
        """
        (problem,) = found(
            tmp_path, "extends: production\nlogging: {levels: {encoder.load: ERROR, lm_studio.chat: DEBUG}}", "PL701"
        )

        assert "logging.levels.lm_studio.chat: warning: policy builds on production but logs lm_studio.chat" in problem


class TestHedges:
    @pytest.mark.parametrize(
        ("layers", "said"),
        [
            ("deadline: 4s, hedge: 4s", "the call ends after 4s, before the delay of 4s"),
            ("timeout: {connect: 1s}, hedge: 4s", None),
            ("timeout: 4s, hedge: {quantile: 0.9, min_delay: 5s}", "the attempt ends after 4s, before the delay of 5s"),
            ("timeout: 4s, hedge: {quantile: 0.9}", None),
        ],
    )
    def test_never_sent(self, tmp_path, layers, said):
        """
        The attempt's timeout and the deadline must leave room for the shortest delay.
        """
        problems = found(tmp_path, f"targets: {{a.b: {{idempotent: true, {layers}}}}}", "PL820")

        assert (said is not None) == (len(problems) == 1)
        assert all(said in problem for problem in problems)

    @pytest.mark.parametrize("hedge", ["10s", "{quantile: 0.9, min_delay: 10s}"])
    def test_a_hedge_that_is_never_sent_was_said_to_double_the_load(self, tmp_path, hedge):
        """
        One rule says that there is none; the others have nothing to say of it.
        """
        text = f"targets: {{encoder.forward: {{idempotent: true, timeout: 5s, hedge: {hedge}}}}}"

        assert [1, 0, 0] == [len(found(tmp_path, text, rule)) for rule in ("PL820", "PL821", "PL822")]
        text = text.replace("10s", "1s")
        assert [0, 1, 1] == [len(found(tmp_path, text, rule)) for rule in ("PL820", "PL821", "PL822")]

    def test_several(self, tmp_path):
        """
        The load grows with the number of hedges.
        """
        text = "targets: {a.b: {idempotent: true, hedge: {delay: 1s, max_hedges: 3}}}"
        (problem,) = found(tmp_path, text, "PL821")

        assert "sends its request 4 times" in problem

    def test_rate_limit_limits_the_load(self, tmp_path):
        """
        A rate limit does as well as a bulkhead.
        """
        text = "targets: {a.b: {idempotent: true, hedge: 1s, rate_limit: {max_calls: 5, period: 1s}}}"

        assert [] == found(tmp_path, text, "PL821")

    def test_encoder_is_always_on_this_machine(self, tmp_path):
        """
        The encoder works where the program does, wherever LM Studio is.
        """
        text = "lm_studio: {base_url: 'http://lm.example/v1'}\ntargets: {encoder.forward: {hedge: 1s}}"
        (problem,) = found(tmp_path, text, "PL822")

        assert "the encoder works on both attempts" in problem

    def test_idempotent_has_a_use(self, tmp_path):
        """
        Saying that a call may be made twice is no idle word beside a hedge.
        """
        assert [] == found(tmp_path, "targets: {a.b: {idempotent: true, hedge: 1s}}", "PL207")


class TestEncoder:
    @pytest.mark.parametrize(
        ("setting", "types"),
        [
            ("dtype: float32", "vit or transformers"),
            ("checkpoint: weights.safetensors", "vit"),
            ("heads: 3", "vit"),
            ("normalize: half", "vit"),
            ("model: clip", "transformers"),
            ("labels: [a cat]", "transformers"),
            ("label_template: 'a photo of {label}'", "transformers"),
            ("max_labels: 2", "transformers"),
            ("min_probability: 0.5", "transformers"),
        ],
    )
    def test_settings_that_patch_does_not_heed(self, tmp_path, setting, types):
        """
        A setting that the chosen type does not look at is told, with those that do.
        """
        name = setting.partition(":")[0]

        assert [
            (
                f"policy.yaml:2:{len(name) + 26}: encoder.{name}: warning: {name} has no effect with type patch, only "
                f"with {types}: leave it out [PL880]"
            )
        ] == found(tmp_path, f"encoder: {{type: patch, {setting}}}", "PL880")


class TestChaos:
    @pytest.mark.parametrize(
        ("extends", "name", "said"),
        [
            ("basic", "production", "production injects faults into lm_studio.chat"),
            ("basic", "my-prod", "my-prod injects faults"),
            ("production", "captions", "captions builds on production but injects faults"),
            ("basic", "product", None),
        ],
    )
    def test_in_production(self, tmp_path, extends, name, said):
        """
        A profile is for production if it, or one that it builds on, is called so; there chaos is an error.
        """
        text = f"extends: {extends}\ntargets: {{lm_studio.chat: {{chaos: {{error: {{rate: 0.1}}}}}}}}"
        problems = found(tmp_path, text, "PL840", file=f"{name}.yaml")

        assert (said is not None) == bool(problems)
        assert all(said in problem for problem in problems)

    def test_in_defaults_is_said_once(self, tmp_path):
        """
        Chaos that every target takes from `defaults` is found where it stands, and once for each target.
        """
        text = "extends: production\ndefaults: {chaos: {error: {rate: 0.1}}}"

        assert {"policy.yaml:3:19"} == {line.partition(": ")[0] for line in found(tmp_path, text, "PL840")}

    def test_removed_is_fine(self, tmp_path):
        """
        A profile for production may build on one with chaos, if it removes it.
        """
        (tmp_path / "test.yaml").write_text(
            "version: 1\ntargets: {billing.charge: {timeout: 5s, chaos: {error: {rate: 0.1}}}}\n", "utf-8"
        )
        text = "extends: test\ntargets: {billing.charge: {chaos: null}}"

        assert [] == found(tmp_path, text, "PL840", file="production.yaml")

    @pytest.mark.parametrize(
        ("layers", "said"),
        [
            ("deadline: 10s", "the deadline of 10s ends the delay of 10s"),
            ("deadline: 11s", None),
            ("timeout: {connect: 1s}", None),
            ("deadline: 10s, timeout: 20s", "the deadline of 10s ends the delay of 10s"),
        ],
    )
    def test_delay_over_the_limit(self, tmp_path, layers, said):
        """
        The timeout and the deadline end a delay that is no shorter.
        """
        text = f"targets: {{a.b: {{{layers}, chaos: {{delay: {{rate: 1, duration: 10s}}}}}}}}"
        problems = found(tmp_path, text, "PL842")

        assert (said is not None) == (len(problems) == 1)
        assert all(said in problem for problem in problems)


class TestShippedProfiles:
    FILES = policy_files(shipped_folder("policies"))

    def test_are_clean(self):
        """
        Nothing is found in the five, and no ignore comment in them is idle.
        """
        assert [] == [str(problem) for problem in check_files(self.FILES, variables={}).problems]

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_each_is_clean(self, file):
        """
        Nor is anything found in one of them alone, although it needs not all comments of its parent.
        """
        assert [] == [str(problem) for problem in check_files([file], variables={}).problems]

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_can_be_extended(self, file, tmp_path):
        """
        Nothing is found, in any file, for a profile of one's own that extends one of them.
        """
        path = tmp_path / "captions.yaml"
        path.write_text(f"version: 1\ndescription: Captions.\nextends: {file.stem}\n", "utf-8")

        assert [] == [str(problem) for problem in check_files([path], variables={}).problems]


class TestPlaces:
    """Where a finding stands that two settings are guilty of."""

    def test_own_line_rather_than_the_parents(self, tmp_path):
        """
        Who shortens a parent's deadline below the parent's timeout is shown the own deadline.
        """
        text = "extends: production\ntargets: {lm_studio.chat: {deadline: 5s}}"

        assert [
            (
                "policy.yaml:3:38: targets.lm_studio.chat.deadline: warning: the timeout of 30s can never end an "
                "attempt: the deadline of 5s comes first [PL101]"
            )
        ] == found(tmp_path, text, "PL101")

    def test_own_section_rather_than_defaults(self, tmp_path):
        """
        A target whose deadline does not suit the timeout of all is shown its deadline.
        """
        text = "defaults: {timeout: 30s}\ntargets: {billing.charge: {deadline: 5s}}"

        assert [
            (
                "policy.yaml:3:38: targets.billing.charge.deadline: warning: the timeout of 30s can never end an "
                "attempt: the deadline of 5s comes first [PL101]"
            )
        ] == found(tmp_path, text, "PL101")

    def test_overlay_rather_than_the_profile(self, tmp_path):
        """
        What an overlay breaks is reported in the overlay.
        """
        profile, overlay = tmp_path / "policy.yaml", tmp_path / "overlay.yaml"
        profile.write_text("version: 1\ndescription: Payments.\ntargets: {a.b: {deadline: 30s, timeout: 10s}}\n")
        overlay.write_text("version: 1\ntargets: {a.b: {deadline: 5s}}\n")
        problems = check_files([profile], overlays=[overlay], variables={}).problems

        assert [("overlay.yaml", 2, "PL101")] == [
            (Path(problem.place.file).name, problem.place.line, problem.rule) for problem in problems
        ]

    def test_once_for_all_who_take_it(self, tmp_path):
        """
        What is wrong in `defaults` is said once, however many targets have it.
        """
        text = "defaults: {deadline: 30s}\ntargets: {a.b: {idempotent: true, retry: {}}, c: {timeout: null}}"

        assert 1 == len(found(tmp_path, text, "PL102"))

    def test_shared_template_is_named_once(self, tmp_path):
        """
        A mistake in a template is reported in the template.
        """
        text = (
            "templates: {retry: {odd: {strategy: immediate, max_delay: 1s}}}\n"
            "targets: {encoder.forward: {retry: odd}, encoder.load: {retry: odd}}"
        )

        assert [
            (
                "policy.yaml:2:59: templates.retry.odd.max_delay: warning: has no effect with immediate, which never "
                "waits: leave it out, or use fixed_delay [PL205]"
            )
        ] == found(tmp_path, text, "PL205")


#: (rule, a policy that it must leave alone)
LEFT_ALONE = {
    "PL101 equal": "targets: {a.b: {deadline: 5s, timeout: 5s}}",
    "PL102 targets of the system": "targets: {encoder.load: {deadline: 5s}}",
    "PL103 a sum that is just reached": "targets: {a.b: {deadline: 630ms, timeout: 100ms, idempotent: true, "
    "retry: {max_attempts: 3, initial_delay: 110ms}}}",
    "PL106 without the encoder": "lm_studio: {vision: image}\ntargets:\n  pixel_llm.generate: {deadline: 30s}\n"
    "  encoder.forward: {deadline: 20s}\n  lm_studio.chat: {deadline: 30s}",
    "PL107 the default": "targets: {lm_studio.models: {deadline: 5s, retry: {max_attempts: 2}}}",
    "PL107 one for all": "defaults: {retry: {retry_after_max: 2m}}\ntargets: {lm_studio.models: {deadline: 5s}}",
    "PL108 a breaker that ends the retries": "targets: {lm_studio.models: {deadline: 60s, timeout: 1s, retry: {}, "
    "circuit_breaker: {failure_threshold: 1}}}",
    "PL201 ten": "targets: {lm_studio.models: {retry: {max_attempts: 10}}}",
    "PL201 own targets": "targets: {a.b: {idempotent: true, retry: {max_attempts: 50}}}",
    "PL202 no wait at all": "targets: {encoder.load: {retry: {initial_delay: 0s, jitter: none}}}",
    "PL204 defaults for others": "defaults: {retry: {backoff_multiplier: 3}}\n"
    "targets: {encoder.load: {retry: {strategy: fixed_delay}}}",
    "PL205 inherited": "extends: basic\ntargets: {lm_studio.chat: {retry: {strategy: immediate}}}",
    "PL205 defaults for others": "defaults: {retry: {initial_delay: 2s}}\n"
    "targets: {encoder.load: {retry: {strategy: immediate}}}",
    "PL207 a pattern": "targets: {a.*: {idempotent: true}, a.b: {retry: {max_attempts: 2}}}",
    "PL207 what is inherited": "defaults: {idempotent: true}\ntargets: {a.b: {timeout: 5s}}",
    "PL208 what is never sent": "targets: {a.b: {idempotent: false, retry: {retry_on: [TRANSIENT, ERR_CONN_REFUSED]}}}",
    "PL208 the default": "targets: {a.b: {idempotent: false, retry: {max_attempts: 2}}}",
    "PL301 what is retried does not count": "targets: {lm_studio.models: {retry: {max_attempts: 5, "
    "retry_on: [THROTTLED]}, circuit_breaker: {failure_threshold: 3}}}",
    "PL302 targets that may call others": "targets: {a.b: {timeout: 5s, circuit_breaker: {count: [DEGRADATION]}}}",
    "PL302 a status": "targets: {lm_studio.models: {circuit_breaker: {count: [503]}}}",
    "PL303 no retry": "targets: {lm_studio.models: {circuit_breaker: {cooldown: 100ms}}}",
    "PL304 a client with timeouts": "targets: {lm_studio.models: {circuit_breaker: {cooldown: 5s}}}",
    "PL301 rates that one call does not reach": "targets: {lm_studio.models: {retry: {max_attempts: 5}, "
    "circuit_breaker: {failure_rate: 0.5}}}",
    "PL301 a breaker that opens by no failure": "targets: {lm_studio.models: {circuit_breaker: {mode: forced_open}}}",
    "PL302 slow calls": "targets: {encoder.load: {circuit_breaker: {count: [429], slow_call_rate: 0.5, "
    "slow_call_duration: 5s}}}",
    "PL303 disabled": "targets: {lm_studio.models: {retry: {}, circuit_breaker: {mode: disabled}}}",
    "PL304 forced open": "targets: {a.b: {circuit_breaker: {mode: forced_open}}}",
    "PL311 elsewhere": "extends: development\ntargets: {lm_studio.chat: {circuit_breaker: {mode: shadow}}}",
    "PL312 shadow": "targets: {lm_studio.models: {circuit_breaker: {mode: shadow, failure_threshold: 7}}}",
    "PL312 laid over": "extends: basic\ntargets: {lm_studio.chat: {circuit_breaker: {mode: disabled}}}",
    "PL315 longer": "targets: {lm_studio.models: {timeout: 5s, circuit_breaker: {half_open_max_wait: 6s}}}",
    "PL316 no limit": "targets: {lm_studio.models: {circuit_breaker: {slow_call_rate: 0.5, slow_call_duration: 1h}}}",
    "PL401 other errors": "targets: {a.b: {fallback: [{default_value: 1, when: [THROTTLED]}, {default_value: 2}]}}",
    "PL401 more errors": "targets: {a.b: {fallback: [{default_value: 1}, "
    "{default_value: 2, when: [ERR_API_CONTEXT_LENGTH]}]}}",
    "PL402 one request": "targets: {a.b: {fallback: [{default_value: 1, when: [ERR_API_CONTEXT_LENGTH, 413, 5xx]}]}}",
    "PL411 within generate": "targets:\n  pixel_llm.generate: {deadline: 60s}\n"
    "  lm_studio.chat: {fallback: [{model: small}]}",
    "PL411 a step that takes none": "targets: {a.b: {fallback: [none]}}",
    "PL412 a later step's reserve": "targets:\n  a.b: {deadline: 9s, timeout: 9s, fallback: [{custom_function: f}, "
    "{custom_function: g, reserve: 1s}]}",
    "PL412 attempts that end sooner": "targets: {a.b: {deadline: 9s, timeout: 8s, fallback: [{custom_function: f}]}}",
    "PL414 another target's": "targets: {a.b: {deadline: 9s, timeout: 2s, "
    "fallback: [{endpoint: 'http://127.0.0.1:1234/v1'}]}}",
    "PL416 no layer": "targets: {a.b: {fallback: [{cache: {ttl: 1s}}]}}",
    "PL403 no breaker": "targets: {pixel_llm.generate: {fallback: [{cache: {ttl: 1s}}]}}",
    "PL404 in place of a chain": "extends: production\ntargets: {pixel_llm.generate: {fallback: [raise]}}",
    "PL404 in place of defaults": "defaults: {fallback: [none]}\ntargets: {a.b: {fallback: [raise]}}",
    "PL405 own targets only": "defaults: {timeout: 5s}\ntargets: {a.b: {retry: {}, idempotent: true}}",
    "PL405 from a pattern": "targets: {pixel_llm.*: {deadline: 5m}, lm_studio.chat: {timeout: 5s}}",
    "PL501 taken by defaults": "templates: {retry: {few: {max_attempts: 2}}}\ndefaults: {retry: few, idempotent: true}",
    "PL502 another word": "targets: {decoder.load: {timeout: 5s}, chat: {timeout: 5s}, billing.forward: {timeout: 5s}}",
    "PL503 another value between": "extends: development\ntargets: {lm_studio.chat: {timeout: {attempt: 60s}}}",
    "PL503 a short form that drops the rest": "extends: production\ntargets: {lm_studio.chat: {timeout: 30s}}",
    "PL503 the name of a template": "templates: {fallback: {sorry: [none]}}\n"
    "defaults: {fallback: [none]}\ntargets: {a.b: {fallback: sorry}}",
    "PL504 in defaults that lie over a template": "extends: basic\ntemplates: {retry: {patient: {max_attempts: 5}}}\n"
    "defaults: {retry: {max_attempts: 3}}\ntargets: {billing.list: {idempotent: true, retry: patient}}",
    "PL504 a template over other values": "extends: basic\ndefaults: {retry: {max_attempts: 5}}\n"
    "templates: {retry: {few: {max_attempts: 3}}}\ntargets: {encoder.load: {retry: few}}",
    "PL507 a template over other values": "defaults: {retry: {max_attempts: 5}}\n"
    "templates: {retry: {few: {max_attempts: null}}}\ntargets: {encoder.load: {retry: few}}",
    "PL503 back to the default": "extends: low-latency\ntargets: {lm_studio.chat: {retry: {max_attempts: 3}}}",
    "PL503 another type": "defaults: {fallback: [{default_value: 1}]}\n"
    "targets: {a.b: {fallback: [{default_value: true}]}}",
    "PL504 a profile of its own": "logging: {level: INFO, console: false}",
    "PL504 a variable": "extends: basic\nlogging: {console: '${CONSOLE:-false}'}",
    "PL505 layers with their defaults": "targets: {a.b: {retry: {}, circuit_breaker: {}, "
    "timeout: 5s, idempotent: true}}",
    "PL505 queues with their defaults": "targets: {a.b: {bulkhead: {}}, encoder.load: {bulkhead: {adaptive: {}}}}",
    "PL023 a limit that never moves": "targets: {a.b: {bulkhead: {max_concurrent: 2, adaptive: "
    "{min_limit: 2, initial_limit: 2}}}}",
    "PL505 a cache with its defaults": "targets: {lm_studio.chat: {cache: {}, rate_limit: {tokens: {}}}}",
    "PL505 budgets with their defaults": "retry_budgets: {ours: {}}\ndefaults: {retry: {budget: {}}}\n"
    "targets: {encoder.load: {retry: {budget: ours}}}",
    "PL505 a template with its defaults": "templates: {retry: {few: {}}}\ntargets: {encoder.load: {retry: few}}",
    "PL505 a target that may be wrapped": "targets: {a.b: {}}",
    "PL507 what a pattern gives": "targets: {a.*: {timeout: 5s}, a.b: {timeout: null}}",
    "PL507 what defaults give": "defaults: {timeout: 5s}\ntargets: {a.b: {timeout: null}, encoder.load: null}",
    "PL507 what a template gives": "templates: {retry: {few: {max_attempts: 2}}}\n"
    "targets: {encoder.load: {retry: {template: few, max_attempts: null}}}",
    "PL508 what may not go away": "targets: {lm_studio.models: {retry: "
    "{retry_on: [TRANSIENT, ERR_API_MODEL_NOT_FOUND]}}}",
    "PL206 a cap of waits that grow by chance": "targets: {lm_studio.chat: {retry: "
    "{strategy: fixed_delay, jitter: decorrelated, max_delay: 20s}}}",
    "PL509 two of one parent": "extends: [high-throughput, production]",
    "PL601 a variable": "lm_studio: {api_key: '${LM_STUDIO_API_KEY:-}'}",
    "PL602 an at sign in the path": "lm_studio: {base_url: 'https://lm.example/@me/v1'}",
    "PL603 this machine": "lm_studio: {base_url: 'http://127.0.0.2:1234/v1', api_key: '${LM_KEY:-}'}",
    "PL603 a parent that takes a key": "extends: basic\nlm_studio: {base_url: 'http://lm.example:1234/v1'}",
    "PL603 no key": "lm_studio: {base_url: 'http://lm.example:1234/v1'}",
    "PL605 a slash at the end": "lm_studio: {base_url: 'https://lm.example/openai/v1/'}",
    "PL606 what is inherited": "extends: basic\nlm_studio: {vision: image}",
    "PL608 nothing set": "lm_studio: {vision: description, image: {}}",
    "PL608 both are sent": "lm_studio: {vision: both, image: {max_side: 512}}",
    "PL609 no quality": "lm_studio: {image: {format: png}}",
    "PL609 chosen by content": "lm_studio: {image: {format: auto, quality: 80}}",
    "PL801 a moment less": "targets: {a.b: {deadline: 5s, rate_limit: {max_calls: 1, period: 1s, max_wait: 4999ms}}}",
    "PL801 no deadline": "targets: {a.b: {rate_limit: {max_calls: 1, period: 1s, max_wait: 1h}}}",
    "PL802 a deadline": "targets: {a.b: {deadline: 5s, bulkhead: {max_waiting: 1}}}",
    "PL802 nobody waits": "targets: {a.b: {bulkhead: {max_waiting: 0}}}",
    "PL803 one waits": "targets: {a.b: {bulkhead: {max_waiting: 1, max_wait: 5s}}}",
    "PL805 as many as may start": "targets: {encoder.load: {retry: {max_attempts: 3, strategy: immediate}, "
    "rate_limit: {max_calls: 3, period: 10s}}}",
    "PL805 waits of a whole period": "targets: {encoder.load: {retry: {max_attempts: 3, strategy: fixed_delay, "
    "initial_delay: 5s}, rate_limit: {max_calls: 1, period: 10s}}}",
    "PL805 tokens only": "targets: {lm_studio.chat: {retry: {}, rate_limit: {tokens: {max_tokens: 1}}}}",
    "PL806 as many as can be under way": "targets: {encoder.load: {timeout: 2s, rate_limit: {max_calls: 2, period: 1s},"
    " bulkhead: {max_concurrent: 6}}}",
    "PL806 no timeout": "targets: {encoder.load: {rate_limit: {max_calls: 1, period: 1s}, bulkhead: {}}}",
    "PL807 a usage function": "targets: {a.b: {rate_limit: {tokens: {max_tokens: 9, usage: f}}}}",
    "PL701 no production": "extends: development\nlogging: {level: DEBUG, file: logs/product.log}",
    "PL703 something for each": "logging: {file: a.log, console: true, format: console, queue_size: 500, rotation: {}}",
    "PL703 a queue for the file": "logging: {file: a.log, queue_size: 500}",
    "PL704 no production": "logging: {file: a.log}",
    "PL704 no file": "extends: production\nlogging: {file: null, rotation: null}",
    "PL705 a logger of the program": "logging: {levels: {warehouse: DEBUG}}",
    "PL705 a target that a pattern covers": "logging: {levels: {a.b: DEBUG}}\ntargets: {a.*: {}}",
    "PL706 over a pattern": "logging: {levels: {a.*: DEBUG, a.b: INFO}}\ntargets: {a.*: {}}",
}


class TestLeftAlone:
    @pytest.mark.parametrize("case", LEFT_ALONE)
    def test_no_finding(self, case, tmp_path):
        """
        What only looks like a mistake is not reported.
        """
        rule, _, _ = case.partition(" ")

        assert [] == found(tmp_path, LEFT_ALONE[case], rule)


#: (rule, a policy that breaks it in another way than its sample, what it is told)
ALSO_FOUND = [
    (
        "PL103",
        "targets: {a.b: {deadline: 5s, timeout: 5s, idempotent: true, retry: {strategy: immediate}}}",
        (
            "policy.yaml:2:27: targets.a.b.deadline: warning: 3 attempts of 5s take 15s, longer than the deadline of "
            "5s: raise it, or try less often [PL103]"
        ),
    ),
    (
        "PL841",
        "targets: {a.b: {chaos: {delay: {rate: 0, duration: 1s}, error: {rate: 0.1, codes: [ERR_CONN_REFUSED]}}}}",
        ("policy.yaml:2:39: targets.a.b.chaos.delay.rate: warning: with a rate of 0 no delay is ever injected [PL841]"),
    ),
    (
        "PL841",
        "targets: {a.b: {chaos: {result: {rate: 0, value: 1}, error: {rate: 0.1, codes: [ERR_CONN_REFUSED]}}}}",
        (
            "policy.yaml:2:40: targets.a.b.chaos.result.rate: warning: with a rate of 0 no result is ever injected "
            "[PL841]"
        ),
    ),
    (
        "PL201",
        (
            "targets:\n  lm_studio.models: {retry: {max_attempts: 1}}\n  a.b: {retry: {max_attempts: 99}, "
            "idempotent: true}\n  pixel_llm.generate: {retry: {max_attempts: 4}}\n"
            "  lm_studio.chat: {retry: {max_attempts: 5}}"
        ),
        (
            "policy.yaml:5:46: targets.pixel_llm.generate.retry.max_attempts: warning: one call of pixel_llm.generate "
            "can become 20 requests to LM Studio, more than 10: lower max_attempts (4 attempts, each with 5 of "
            "lm_studio.chat) [PL201]"
        ),
    ),
    (
        "PL303",
        "targets: {lm_studio.models: {retry: {initial_delay: 1234ms}, circuit_breaker: {cooldown: 1s}}}",
        (
            "policy.yaml:2:90: targets.lm_studio.models.circuit_breaker.cooldown: warning: the cooldown of 1s is "
            "shorter than the first wait of 1.234s: the retries alone hold back more than the breaker does [PL303]"
        ),
    ),
    (
        "PL301",
        (
            "targets: {encoder.load: {retry: {max_attempts: 3, retry_on: [UNKNOWN]}, circuit_breaker: "
            "{failure_threshold: 3, count: [UNKNOWN]}}}"
        ),
        (
            "policy.yaml:2:110: targets.encoder.load.circuit_breaker.failure_threshold: warning: 3 failures open the "
            "breaker, and one call alone makes up to 3: raise failure_threshold above 3 [PL301]"
        ),
    ),
    (
        "PL301",
        (
            "targets: {encoder.load: {retry: {max_attempts: 3, retry_on: [ERR_CONN_REFUSED]}, circuit_breaker: "
            "{failure_threshold: 2, count: [ERR_CONN_REFUSED]}}}"
        ),
        (
            "policy.yaml:2:119: targets.encoder.load.circuit_breaker.failure_threshold: warning: 2 failures open the "
            "breaker, and one call alone makes up to 3: raise failure_threshold above 3 [PL301]"
        ),
    ),
    (
        "PL801",
        "targets: {a.b: {deadline: 5s, rate_limit: {max_calls: 1, period: 1s, max_wait: 5s}}}",
        (
            "policy.yaml:2:80: targets.a.b.rate_limit.max_wait: warning: a call that waits 5s has no time left: the "
            "deadline is 5s [PL801]"
        ),
    ),
    (
        "PL802",
        "targets: {a.b: {bulkhead: {max_concurrent: 4, max_waiting: 1}}}",
        (
            "policy.yaml:2:27: targets.a.b.bulkhead: warning: nothing ends the wait for a slot: add max_wait, or a "
            "deadline [PL802]"
        ),
    ),
    (
        "PL805",
        (
            "targets: {encoder.load: {retry: {max_attempts: 3, strategy: fixed_delay, initial_delay: 4900ms}, "
            "rate_limit: {max_calls: 2, period: 10s}}}"
        ),
        (
            "policy.yaml:2:122: targets.encoder.load.rate_limit.max_calls: warning: one call makes up to 3 attempts, "
            "but only 2 may start in 10s, and none waits: its own retries are refused [PL805]"
        ),
    ),
    (
        "PL806",
        "targets: {encoder.load: {timeout: 2s, rate_limit: {max_calls: 2, period: 1s}, bulkhead: {max_concurrent: 7}}}",
        (
            "policy.yaml:2:106: targets.encoder.load.bulkhead.max_concurrent: note: never more than 6 calls are under "
            "way: so many start within the timeout of 2s, and the bulkhead has 7 slots [PL806]"
        ),
    ),
    (
        "PL807",
        "targets: {encoder.load: {rate_limit: {tokens: {max_tokens: 9}}}}",
        (
            "policy.yaml:2:47: targets.encoder.load.rate_limit.tokens: note: encoder.load uses no tokens that anybody "
            "counts: limit those of lm_studio.chat [PL807]"
        ),
    ),
    (
        "PL103",
        "targets: {a.b: {deadline: 10s, timeout: 4s, idempotent: true, retry: {strategy: immediate}}}",
        (
            "policy.yaml:2:27: targets.a.b.deadline: warning: 3 attempts of 4s take 12s, longer than the deadline of "
            "10s: raise it, or try less often [PL103]"
        ),
    ),
    (
        "PL105",
        (
            "targets: {pixel_llm.generate: {deadline: 10s}, encoder.load: {deadline: 11s}, lm_studio.chat: "
            "{deadline: 4s}}"
        ),
        (
            "policy.yaml:2:73: targets.encoder.load.deadline: warning: the deadline of encoder.load, 11s, is never "
            "reached inside pixel_llm.generate, which ends after 10s [PL105]"
        ),
    ),
    (
        "PL201",
        "targets: {lm_studio.models: {retry: {max_attempts: 11}}}",
        (
            "policy.yaml:2:52: targets.lm_studio.models.retry.max_attempts: warning: one call of lm_studio.models "
            "can become 11 requests to LM Studio, more than 10: lower max_attempts [PL201]"
        ),
    ),
    (
        "PL203",
        "templates: {retry: {once: {max_attempts: 1}}}\ntargets: {encoder.load: {retry: once}}",
        (
            "policy.yaml:2:42: targets.encoder.load.retry.max_attempts: note: 1 attempt is no retry, so this section "
            "does nothing: leave it out, or write `retry: null` to remove what is inherited [PL203]"
        ),
    ),
    (
        "PL205",
        "extends: basic\ntargets: {encoder.forward: {retry: {jitter: full}}}",
        (
            "policy.yaml:3:45: targets.encoder.forward.retry.jitter: warning: has no effect with immediate, which "
            "never waits: leave it out, or use fixed_delay [PL205]"
        ),
    ),
    (
        "PL208",
        "targets: {a.b: {idempotent: false, timeout: 5s, retry: {retry_on: [THROTTLED, 5xx]}}}",
        (
            "policy.yaml:2:67: targets.a.b.retry.retry_on: warning: THROTTLED, 5xx have no effect with `idempotent: "
            "false`, which only retries errors that prove that nothing was sent, so nothing is ever retried [PL208]"
        ),
    ),
    (
        "PL301",
        "targets: {lm_studio.models: {circuit_breaker: {failure_threshold: 1}}}",
        (
            "policy.yaml:2:67: targets.lm_studio.models.circuit_breaker.failure_threshold: warning: a single failed "
            "attempt opens the breaker: raise failure_threshold above 1 [PL301]"
        ),
    ),
    (
        "PL301",
        (
            "targets: {lm_studio.models: {retry: {max_attempts: 5}, circuit_breaker: {failure_rate: 0.3, "
            "minimum_calls: 10, failure_threshold: 9}}}"
        ),
        (
            "policy.yaml:2:108: targets.lm_studio.models.circuit_breaker.minimum_calls: warning: 3 failures among 10 "
            "calls open the breaker, and one call alone makes up to 5: raise minimum_calls [PL301]"
        ),
    ),
    (
        "PL310",
        "targets: {lm_studio.models: {circuit_breaker: {window: {calls: 50}}}}",
        (
            "policy.yaml:2:56: targets.lm_studio.models.circuit_breaker.window: warning: has no effect without a rate: "
            "leave it out, or add failure_rate or slow_call_rate [PL310]"
        ),
    ),
    (
        "PL315",
        "targets: {lm_studio.models: {deadline: 5s, circuit_breaker: {half_open_max_wait: 5s}}}",
        (
            "policy.yaml:2:82: targets.lm_studio.models.circuit_breaker.half_open_max_wait: warning: trial calls are "
            "given up after 5s, but may take 5s: the breaker would open again without having waited for them; raise "
            "half_open_max_wait [PL315]"
        ),
    ),
    (
        "PL302",
        "targets: {encoder.forward: {circuit_breaker: {count: [THROTTLED, 5xx, ERR_CONN_LOST]}}}",
        (
            "policy.yaml:2:54: targets.encoder.forward.circuit_breaker.count: warning: the breaker never opens: no "
            "attempt of encoder.forward ends with THROTTLED, ERR_CONN_LOST, 5xx [PL302]"
        ),
    ),
    (
        "PL401",
        "targets: {a.b: {fallback: [{cache: {}}, raise, {default_value: 1, when: [PERMANENT]}]}}",
        (
            "policy.yaml:2:48: targets.a.b.fallback[2]: warning: never serves: step 2, raise, always ends the chain "
            "before; put it first, or leave it out [PL401]"
        ),
    ),
    (
        "PL402",
        "targets: {a.b: {fallback: [{default_value: 1, when: [401, ERR_API_MODEL_NOT_FOUND]}]}}",
        (
            "policy.yaml:2:53: targets.a.b.fallback[0].when: warning: ERR_API_MODEL_NOT_FOUND, 401 would hide a "
            "mistake in the set-up, such as a wrong key, behind the default_value step: leave it to be raised [PL402]"
        ),
    ),
    (
        "PL403",
        "extends: production\ntargets: {lm_studio.chat: {circuit_breaker: {cooldown: 2h}}}",
        (
            "policy.yaml:3:56: targets.lm_studio.chat.circuit_breaker.cooldown: warning: results are kept for 1h, "
            "but the breaker of lm_studio.chat stays open for 2h: the cache is empty when it is needed most; raise "
            "ttl [PL403]"
        ),
    ),
    (
        "PL404",
        "extends: production\ntargets: {a.b: {fallback: [raise], timeout: 5s}}",
        (
            "policy.yaml:3:27: targets.a.b.fallback: note: raising is what happens without a fallback, and there is "
            "none to replace: leave it out [PL404]"
        ),
    ),
    (
        "PL405",
        "targets: {pixel_llm.generate: {retry: {max_attempts: 2}}}",
        (
            "policy.yaml:2:11: targets.pixel_llm.generate: warning: pixel_llm.generate has neither a deadline nor a "
            "fallback: who asks for a caption may wait without end and get an error then; give it one of them [PL405]"
        ),
    ),
    (
        "PL502",
        "targets: {lm-stuido.chat: {timeout: 5s}}",
        (
            "policy.yaml:2:11: targets.lm-stuido.chat: warning: the system never calls 'lm-stuido.chat', so this "
            'guards nothing of it; did you mean "lm_studio.chat"? [PL502]'
        ),
    ),
    (
        "PL502",
        "targets: {encoder: {timeout: 5s}}",
        (
            "policy.yaml:2:11: targets.encoder: warning: the system never calls 'encoder', so this guards nothing of "
            'it; did you mean "encoder.*"? [PL502]'
        ),
    ),
    (
        "PL502",
        "targets: {pixelllm.*: {timeout: 5s}}",
        (
            "policy.yaml:2:11: targets.pixelllm.*: warning: the system never calls 'pixelllm.*', so this guards "
            'nothing of it; did you mean "pixel_llm.*"? [PL502]'
        ),
    ),
    (
        "PL503",
        "extends: basic\ntargets: {lm_studio.models: {timeout: 5s}}",
        "policy.yaml:3:39: targets.lm_studio.models.timeout: note: basic says the same already: leave it out [PL503]",
    ),
    (
        "PL503",
        "extends: production\ntargets: {lm_studio.chat: {timeout: {attempt: 0.5m}}}",
        (
            "policy.yaml:3:47: targets.lm_studio.chat.timeout.attempt: note: production says the same already: leave "
            "it out [PL503]"
        ),
    ),
    (
        "PL503",
        (
            "extends: production\ntargets: {pixel_llm.generate: {fallback: [{cache: {ttl: 1h}}, {default_value: "
            "Unable to generate caption}]}}"
        ),
        (
            "policy.yaml:3:42: targets.pixel_llm.generate.fallback: note: production says the same already: leave it "
            "out [PL503]"
        ),
    ),
    (
        "PL503",
        (
            "templates: {retry: {few: {max_attempts: 2}}}\ntargets: {encoder.load: {retry: {template: few, "
            "max_attempts: 2}}}"
        ),
        (
            "policy.yaml:3:63: targets.encoder.load.retry.max_attempts: note: line 2 of this file says the same "
            "already: leave it out [PL503]"
        ),
    ),
    (
        "PL503",
        "targets: {a.*: {timeout: 5s}, a.b: {timeout: {attempt: 5s, connect: 1s}}}",
        (
            "policy.yaml:2:56: targets.a.b.timeout.attempt: note: line 2 of this file says the same already: leave "
            "it out [PL503]"
        ),
    ),
    (
        "PL504",
        "extends: basic\ntargets: {lm_studio.models: {retry: {retry_on: [THROTTLED, TRANSIENT]}}}",
        (
            "policy.yaml:3:48: targets.lm_studio.models.retry.retry_on: note: is the language's default anyway: "
            "leave it out [PL504]"
        ),
    ),
    (
        "PL505",
        "targets: {encoder.load: {}}",
        "policy.yaml:2:25: targets.encoder.load: note: is empty and changes nothing: leave it out [PL505]",
    ),
    (
        "PL505",
        "targets: {a.b: {circuit_breaker: {failure_rate: 0.5, window: {}}}}",
        (
            "policy.yaml:2:62: targets.a.b.circuit_breaker.window: note: is empty and changes nothing: leave it out "
            "[PL505]"
        ),
    ),
    (
        "PL505",
        "extends: basic\ntargets: {lm_studio.chat: {retry: {}}}",
        "policy.yaml:3:35: targets.lm_studio.chat.retry: note: is empty and changes nothing: leave it out [PL505]",
    ),
    (
        "PL507",
        "logging: null",
        (
            "policy.yaml:2:10: logging: warning: null removes what is inherited, and nothing is inherited here: "
            "leave it out [PL507]"
        ),
    ),
    (
        "PL507",
        "extends: development\ntargets: {lm_studio.chat: {circuit_breaker: null}}",
        (
            "policy.yaml:3:45: targets.lm_studio.chat.circuit_breaker: warning: null removes what is inherited, and "
            "nothing is inherited here: leave it out [PL507]"
        ),
    ),
    (
        "PL508",
        "targets: {a.b: {fallback: [{default_value: 1, when: [5xx, 503]}]}}",
        "policy.yaml:2:53: targets.a.b.fallback[0].when: note: 503 is one of 5xx anyway: leave it out [PL508]",
    ),
    (
        "PL508",
        "targets: {lm_studio.chat: {retry: {retry_on: [TRANSIENT, ERR_CONN_LOST]}}}",
        (
            "policy.yaml:2:46: targets.lm_studio.chat.retry.retry_on: note: ERR_CONN_LOST is one of TRANSIENT anyway: "
            "leave it out [PL508]"
        ),
    ),
    (
        "PL509",
        "extends: [basic, production]",
        (
            "policy.yaml:2:11: extends[0]: warning: production builds on basic itself; naming it again changes "
            "nothing: leave it out [PL509]"
        ),
    ),
    (
        "PL601",
        "lm_studio: {api_key: '${LM_STUDIO_API_KEY:-sk-0123456789}'}",
        (
            "policy.yaml:2:22: lm_studio.api_key: the key is written out here as the variable's default, for "
            "everybody who sees it: write ${LM_STUDIO_API_KEY}, and set that variable instead"
        ),
    ),
    (
        "PL602",
        "lm_studio: {base_url: 'https://${LM_USER:-me}@lm.example/v1'}",
        (
            "policy.yaml:2:23: lm_studio.base_url: the address holds a user name or a password, which addresses in "
            "logs and messages would carry on: leave them out, and use api_key"
        ),
    ),
    (
        "PL605",
        "lm_studio: {base_url: 'http://127.0.0.1:1234/api/v0'}",
        (
            "policy.yaml:2:23: lm_studio.base_url: warning: the path must end in /v1, where the API starts (got "
            "'/api/v0'): every call would be a 404 [PL605]"
        ),
    ),
    (
        "PL606",
        "lm_studio: {vision: image}\ntargets: {encoder.forward: {timeout: 5s}}",
        (
            "policy.yaml:3:11: targets.encoder.forward: note: has no effect with `vision: image`, which sends the "
            "picture itself and never calls the encoder [PL606]"
        ),
    ),
    (
        "PL607",
        "extends: basic\nlm_studio: {generation: {top_p: 0.5, temperature: 0}}",
        (
            "policy.yaml:3:33: lm_studio.generation.top_p: note: top_p has no effect with `temperature: 0`, which "
            "always takes the likeliest word: leave one of them out [PL607]"
        ),
    ),
    (
        "PL209",
        "extends: basic\ntargets: {pixel_llm.generate: {deadline: 20m, retry: {strategy: immediate}}}",
        (
            "policy.yaml:3:54: targets.pixel_llm.generate.retry: note: two layers of retries multiply to 9 requests (3 "
            "attempts, each with 3 of lm_studio.chat): retry in one of them [PL209]"
        ),
    ),
    (
        "PL864",
        "targets: {writer.write: {idempotent: true, timeout: {first_token: 5s}, retry: {retry_on_result: is_bad}}}",
        (
            "policy.yaml:2:97: targets.writer.write.retry.retry_on_result: note: the target's timeout speaks of "
            "streams, which pass retry_on_result by: it is for other calls only [PL864]"
        ),
    ),
    (
        "PL609",
        "extends: basic\nlm_studio: {image: {quality: 80, format: png}}",
        (
            "policy.yaml:3:30: lm_studio.image.quality: note: quality has no effect with `format: png`, which keeps "
            "every pixel: leave one of them out [PL609]"
        ),
    ),
]


class TestAlsoFound:
    @pytest.mark.parametrize(("rule", "text", "expected"), ALSO_FOUND)
    def test_message(self, rule, text, expected, tmp_path):
        """
        A rule sees the same mistake in other forms.
        """
        assert [expected] == found(tmp_path, text, rule)

    def test_a_profile_that_is_production(self, tmp_path):
        """
        DEBUG in a profile that is called production is found by its name.
        """
        assert [
            (
                "eu-prod.yaml:2:18: logging.level: warning: eu-prod logs at DEBUG, "
                "which buries what matters: use INFO [PL701]"
            )
        ] == found(tmp_path, "logging: {level: DEBUG}", "PL701", file="eu-prod.yaml")


TWO = """lm_studio:
  endpoints:
    - {base_url: "http://127.0.0.1:1234/v1", api_key: "${LM_STUDIO_API_KEY:-}"}
    - %s
"""


class TestSeveralServers:
    @pytest.mark.parametrize(
        ("rule", "second", "message"),
        [
            (
                "PL601",
                "{base_url: 'https://lm.example/v1', api_key: sk-1}",
                (
                    "policy.yaml:5:52: lm_studio.endpoints[1].api_key: the key is written out here, for "
                    "everybody who sees it: write ${LM_STUDIO_API_KEY}, and set that variable instead"
                ),
            ),
            (
                "PL602",
                "{base_url: 'https://me:secret@lm.example/v1'}",
                (
                    "policy.yaml:5:18: lm_studio.endpoints[1].base_url: the address holds a user name or a "
                    "password, which addresses in logs and messages would carry on: leave them out, and use api_key"
                ),
            ),
            (
                "PL603",
                "{base_url: 'http://lm.example/v1', api_key: '${LM_STUDIO_API_KEY:-}'}",
                (
                    "policy.yaml:5:18: lm_studio.endpoints[1].base_url: warning: the key goes to lm.example "
                    "unencrypted, and everybody on the way can read it: use https [PL603]"
                ),
            ),
            (
                "PL604",
                "{base_url: 'http://localhost:1234/v1'}",
                (
                    "policy.yaml:5:18: lm_studio.endpoints[1].base_url: note: localhost is often tried as ::1 first, "
                    "where LM Studio does not listen: write 127.0.0.1, which saves that [PL604]"
                ),
            ),
            (
                "PL605",
                "{base_url: 'http://127.0.0.1:1235'}",
                (
                    "policy.yaml:5:18: lm_studio.endpoints[1].base_url: warning: the path must end in /v1, where the "
                    "API starts (got nothing): every call would be a 404 [PL605]"
                ),
            ),
            ("PL603", "{base_url: 'http://lm.example/v1'}", ""),
            ("PL612", "{base_url: 'http://lm.example/v1'}\n  balance: least_busy", ""),
            ("PL613", "{base_url: 'http://lm.example/v1'}\n  health: {interval: 5s, timeout: 5s}", ""),
        ],
    )
    def test_each_server_is_looked_at(self, rule, second, message, tmp_path):
        """
        What is said of one address and one key is said of each of several.
        """
        assert ([message] if message else []) == found(tmp_path, TWO % second, rule)

    def test_what_a_parent_says_is_no_mistake(self, tmp_path):
        """
        Who extends a profile with one server and names several can't take that one away.
        """
        assert [] == found(tmp_path, "extends: basic\n" + TWO % "{base_url: 'https://lm.example/v1'}", "PL611")

    def test_a_key_beside_endpoints(self, tmp_path):
        """
        A key that no server is given is told, too.
        """
        text = TWO % "{base_url: 'https://lm.example/v1'}" + "  api_key: ${LM_STUDIO_API_KEY:-}"

        (message,) = found(tmp_path, text, "PL611")

        assert message.startswith(
            "policy.yaml:6:12: lm_studio.api_key: warning: api_key has no effect beside endpoints"
        )

    def test_one_server_has_no_health(self, tmp_path):
        """
        One server is not looked after, however the look would be.
        """
        one = "lm_studio: {health: {interval: 1s, timeout: 5s}}"

        assert [] == found(tmp_path, one, "PL613")
        assert 1 == len(found(tmp_path, one, "PL612"))

    @pytest.mark.parametrize(
        ("targets", "name"),
        [
            ("{lm_studio.chat: {deadline: 60s}}", "lm_studio.chat"),
            ("{pixel_llm.generate: {deadline: 60s}, lm_studio.chat: {deadline: 61s}}", "pixel_llm.generate"),
            ("{pixel_llm.generate: {deadline: 10s}, lm_studio.chat: {deadline: 10s}}", "lm_studio.chat"),
            ("{pixel_llm.generate: {deadline: 61s}, lm_studio.chat: {}}", None),
            ("{}", None),
        ],
    )
    def test_a_grace_in_time(self, targets, name, tmp_path):
        """
        A grace as long as a deadline leaves no time for the answer; it is told once.
        """
        messages = found(tmp_path, f"lm_studio: {{cold_start: {{grace: 60s}}}}\ntargets: {targets}", "PL614")

        assert ([] if name is None else [True]) == [f"the deadline of {name} is" in message for message in messages]

    def test_no_cold_start_no_grace(self, tmp_path):
        """
        Without a cold start nobody waits.
        """
        assert [] == found(tmp_path, "targets: {lm_studio.chat: {deadline: 1s}}", "PL614")

    def test_hedges_between_servers(self, tmp_path):
        """
        Two servers on this machine are two, as far as a hedge is concerned.
        """
        text = TWO % "{base_url: 'http://127.0.0.1:1235/v1'}"
        hedged = "targets: {lm_studio.chat: {timeout: 30s, bulkhead: {max_concurrent: 8}, hedge: 5s}}"

        assert [] == found(tmp_path, text + hedged, "PL822")

    def test_a_fallback_to_one_of_them(self, tmp_path):
        """
        A fallback that asks one of the servers again is told, whichever it is.
        """
        text = TWO % "{base_url: 'http://127.0.0.1:1235/v1'}"
        asks = "targets: {lm_studio.chat: {deadline: 1m, fallback: [{endpoint: 'http://127.0.0.1:1235/v1/'}]}}"

        assert 1 == len(found(tmp_path, text + asks, "PL414"))


#: What the rules about repetition say may be left out.
LEFT_OUT = ("PL503", "PL504", "PL505", "PL507")

TEXTS = [*LEFT_ALONE.values(), *(text for _, text, _ in ALSO_FOUND), *(rule.bad for rule in CHECKED)]


def without(document: Any, path: Sequence[Any]) -> Any:
    """*document* without what stands at *path*, or without the short form that stands for it."""
    key, *rest = path
    if rest and isinstance(document[key], dict):
        return {**document, key: without(document[key], rest)}
    return {other: child for other, child in document.items() if other != key}


def meaning(config: PolicyConfig) -> PolicyConfig:
    """*config* without layers, windows and targets that are there but empty."""
    targets = {name: without_what_says_nothing(target) for name, target in config.targets.items()}
    guarded = {name: target for name, target in targets.items() if target != TargetPolicy()}
    return dataclasses.replace(config, targets=guarded)


def without_what_says_nothing(target: TargetPolicy) -> TargetPolicy:
    timeout, breaker = target.timeout, target.circuit_breaker
    if breaker is not None and breaker.window == WindowConfig():
        breaker = dataclasses.replace(breaker, window=None)
    return dataclasses.replace(target, timeout=None if timeout == TimeoutConfig() else timeout, circuit_breaker=breaker)


class TestLeavingOut:
    @pytest.mark.parametrize("text", TEXTS)
    def test_changes_nothing(self, text, tmp_path):
        """
        A policy means the same when what is said to be of no effect is left out.
        """
        path = tmp_path / "policy.yaml"
        path.write_text(f"version: 1\n{text}\n", "utf-8")
        loaded = load_policy_file(path, variables={})
        document = yaml.safe_load(path.read_text("utf-8"))
        for rule in LEFT_OUT:
            for finding in find_rule(rule).check(loaded):
                path.write_text(json.dumps(without(document, finding.path)), "utf-8")

                assert meaning(loaded.config) == meaning(load_policy_file(path, variables={}).config)


class TestSecrets:
    @pytest.mark.parametrize(
        "text",
        [
            "lm_studio: {api_key: sk-0123456789}",
            "lm_studio: {api_key: '${LM_STUDIO_API_KEY:-sk-0123456789}'}",
            "lm_studio: {api_key: '$${sk-0123456789'}",
            "extends: basic\nlm_studio: {api_key: sk-0123456789, base_url: 'http://u:sk-0123456789@lm.example/v1'}",
            "lm_studio: {base_url: 'http://u:sk-0123456789@lm.example'}",
        ],
    )
    def test_no_message_shows_one(self, text, tmp_path):
        """
        A secret in a file is an error, and no message repeats it.
        """
        problems = problems_of(tmp_path, text)

        assert {"PL601", "PL602"} & {p.rule for p in problems if p.severity is ProblemSeverity.ERROR}
        assert "0123456789" not in " ".join(map(str, problems))

    def test_from_a_variable_is_no_mistake_of_the_file(self, tmp_path):
        """
        What a variable brings is not held against the file.
        """
        path = tmp_path / "policy.yaml"
        path.write_text("version: 1\ndescription: With a key.\nlm_studio: {api_key: '${LM_STUDIO_API_KEY}'}\n")

        assert () == check_files([path], variables={"LM_STUDIO_API_KEY": "sk-0123456789"}).problems

    def test_sent_without_encryption_although_a_parent_takes_it(self, tmp_path):
        """
        With a key in the environment, an address in the own file that gives it away is found.
        """
        path = tmp_path / "policy.yaml"
        path.write_text("version: 1\ndescription: A\nextends: basic\nlm_studio: {base_url: 'http://lm.example/v1'}\n")
        problems = check_files([path], variables={"LM_STUDIO_API_KEY": "sk-0123456789"}).problems

        assert [("PL603", str(path), 4)] == [
            (problem.rule, problem.place.file, problem.place.line) for problem in problems
        ]
