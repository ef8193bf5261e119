"""Policies at work: ties the language, the stacks and the log together."""

from pixel_llm.runtime.active import active_policies, guard
from pixel_llm.runtime.policies import Policies, load_policies
from pixel_llm.runtime.reloaded import Reloaded

__all__ = ["Policies", "Reloaded", "active_policies", "guard", "load_policies"]
