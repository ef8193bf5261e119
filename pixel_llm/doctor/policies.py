"""Is the policy valid, and what does the linter say of it?"""

from __future__ import annotations

from collections.abc import Sequence

from pixel_llm.doctor.case import Case
from pixel_llm.doctor.findings import Finding, failed, ok, warning
from pixel_llm.errors import Problem, ProblemSeverity
from pixel_llm.policy import load_policy
from pixel_llm.policy.checking import check_files
from pixel_llm.policy.showing import count


def check_policy(case: Case) -> Finding:
    """Load the policy, with everything that it extends."""
    case.policy = load_policy(case.folder, case.profile, overrides=case.overrides)
    return ok(f"profile {case.policy.profile} is valid")


def check_rules(case: Case) -> Finding:
    """Lint the policy's file, as it is without what the command line lays over it."""
    return judge_problems(check_files((case.loaded.file,)).problems)


def judge_problems(problems: Sequence[Problem]) -> Finding:
    """What the linter's *problems* amount to: notes stop nobody."""
    bad = [problem for problem in problems if problem.severity is not ProblemSeverity.NOTE]
    if not bad:
        return ok(count(len(problems), "note") if problems else "the linter has no complaints")
    message = "\n".join([f"the linter finds {count(len(bad), 'problem')}", *map(str, bad)])
    grave = any(problem.severity is ProblemSeverity.ERROR for problem in bad)
    return (failed if grave else warning)(
        message, "mend them, or say in the file why it is meant; see the rules' pages"
    )
