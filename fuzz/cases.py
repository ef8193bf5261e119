"""One case: a policy, perhaps with an overlay, taken through everything that loading and checking do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz.corpus import VALID, Corpus
from fuzz.mutation import mutated
from pixel_llm.errors import PolicyError, Problem
from pixel_llm.policy import LoadedPolicy, policy_files, shipped_folder
from pixel_llm.policy.bounds import all_bounds
from pixel_llm.policy.checking import lint
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.lint import RULES, Suppressions
from pixel_llm.policy.loading import load_from
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes, read_file
from pixel_llm.policy.sections.document import POLICY

CASE, OVERLAY, PARENT = Path("case.yaml"), Path("overlay.yaml"), Path("parent.yaml")

SECRET = "sk-of-the-fuzzer"
VARIABLES = {
    "A": "1",
    "LM_STUDIO_API_KEY": SECRET,
    "GITHUB_TOKEN": SECRET,
    "NEWLINE": "a\nb",
    "SURROGATE": "\udcff",
    "EMPTY": "",
    "NUMBER": "30",
    "VENDOR": "acme",
    "TEMPERATURE": "0.5",
}

#: What a mutated policy may extend: nothing is read from disk while cases run.
_PARENT = b"""version: 1
templates: {retry: {patient: {max_attempts: 5}}, circuit_breaker: {quick: {}}, fallback: {sorry: [none]}}
defaults: {deadline: 60s}
targets: {lm_studio.*: {timeout: 5s, retry: patient}, billing.*: {timeout: 1s, circuit_breaker: quick}}
"""
_PARENTS = {path.stem: path for folder in (VALID, shipped_folder("policies")) for path in policy_files(folder)}
_DOCUMENTS: dict[Path, Node] = {path: read_file(path) for path in _PARENTS.values()}
_DOCUMENTS[PARENT] = read_bytes(_PARENT, name=str(PARENT))
_PROFILES = {**_PARENTS, "parent": PARENT, "case": CASE}


class CaseError(AssertionError):
    """A case has shown something that must not be."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is loaded: a policy's bytes and perhaps an overlay's."""

    policy: bytes
    overlay: bytes | None = None
    variables: dict[str, str] = field(default_factory=lambda: VARIABLES)

    def to_json(self) -> str:
        """The case as a text that :meth:`from_json` reads; bytes as Latin-1."""
        overlay = None if self.overlay is None else self.overlay.decode("latin-1")
        return json.dumps({"policy": self.policy.decode("latin-1"), "overlay": overlay, "variables": self.variables})

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case that :meth:`to_json` wrote."""
        value = json.loads(text)
        overlay = None if value["overlay"] is None else value["overlay"].encode("latin-1")
        return cls(value["policy"].encode("latin-1"), overlay, value["variables"])


def make_case(random: Random, corpus: Corpus) -> Case:
    """A case that depends on nothing but *random* and *corpus*."""
    policy = mutated(random, corpus)
    overlay = mutated(random, corpus) if random.random() < 0.05 else None
    return Case(policy, overlay, {} if random.random() < 0.1 else VARIABLES)


def run_case(case: Case) -> bool:
    """
    Load and check the policy of *case*.

    Returns:
        Whether it was accepted.

    Raises:
        CaseError: If it was refused without saying where or why, or accepted and is not whole.
    """
    sources = Sources(_PROFILES)
    sources.documents.update(_DOCUMENTS)
    sources.add(CASE, case.policy)
    overlays = []
    if case.overlay is not None:
        sources.add(OVERLAY, case.overlay)
        overlays = [OVERLAY]
    try:
        loaded = load_from(sources, CASE, overlays=overlays, variables=case.variables)
    except PolicyError as error:
        if not error.problems:
            raise CaseError("a refusal without a problem") from error
        _check(error.problems)
        return False
    problems = lint(loaded)
    _check(problems)
    _check(_suppressed(case, problems))
    _check_whole(loaded)
    return True


def _check(problems: tuple[Problem, ...] | list[Problem]) -> None:
    """Every problem has a place and is one line of printable text, of bounded length, without a secret."""
    for problem in problems:
        text = str(problem)
        if not problem.place.file or not problem.message or not problem.rule:
            raise CaseError(f"a problem without a place, a message or a rule: {problem!r}")
        if not text.isprintable():
            raise CaseError(f"a problem that is not one line of printable text: {problem!r}")
        if len(problem.message) > 1000 or len(problem.path) > 1000:
            raise CaseError(f"a problem of {len(text)} characters")
        if SECRET in text:
            raise CaseError(f"a problem that shows a secret: {problem!r}")


def _suppressed(case: Case, problems: list[Problem]) -> list[Problem]:
    suppressions = Suppressions(rule.id for rule in RULES)
    suppressions.read(CASE, case.policy)
    return [*suppressions.filter(problems), *suppressions.problems()]


def _check_whole(loaded: LoadedPolicy) -> None:
    """What was accepted can be written down again, has bounds, and shows no secret."""
    written = POLICY.thaw(loaded.config)
    server = loaded.config.lm_studio
    section = written.get("lm_studio", {})
    places = [(server.api_key, section)]
    places += [(one.api_key, section["endpoints"][index]) for index, one in enumerate(server.endpoints or ())]
    for key, place in places:
        if key is not None:
            place["api_key"] = key.reveal()
    if POLICY.freeze(written) != loaded.config:
        raise CaseError("a policy that does not come back from how it is written")
    all_bounds(loaded.config)
    if SECRET in repr(loaded.config):
        raise CaseError("a policy whose text shows a secret")
