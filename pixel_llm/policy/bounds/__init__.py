"""
What a policy can cost at worst, computed from the policy alone.

A bound is never exceeded, whatever the callable, its server and the other callers do, and some
schedule reaches it. ``docs/explanation/bounds.md`` derives the formulas and names the corners
in which a bound is true but is not reached.
"""

from pixel_llm.policy.bounds.attempts import shortest_wait, worst_rounds
from pixel_llm.policy.bounds.computing import DEFAULT_RATE, Bounds, all_bounds, compute_bounds
from pixel_llm.policy.bounds.generate import CHAT, GENERATE, INSIDE_GENERATE
from pixel_llm.policy.bounds.openings import share_of

__all__ = [
    "CHAT",
    "DEFAULT_RATE",
    "GENERATE",
    "INSIDE_GENERATE",
    "Bounds",
    "all_bounds",
    "compute_bounds",
    "share_of",
    "shortest_wait",
    "worst_rounds",
]
