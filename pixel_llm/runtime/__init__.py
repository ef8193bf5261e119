"""Policies at work: ties the language, the stacks and the log together."""

from pixel_llm.runtime.policies import Policies, load_policies

__all__ = ["Policies", "load_policies"]
