"""``pixel-llm policy``: check policies, look into them, compare them. One file a command."""

from pixel_llm.cli.policy.group import policy_group

__all__ = ["policy_group"]
