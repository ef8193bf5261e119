"""The command group; its commands are imported when they are called."""

from __future__ import annotations

import click

from pixel_llm.cli.lazy import LazyGroup

COMMANDS = {
    "diff": ("pixel_llm.cli.policy.diff:diff_command", "Compare two policies by what they mean."),
    "explain": (
        "pixel_llm.cli.policy.explain:explain_command",
        "Show each target's layers, and what a call costs at worst.",
    ),
    "list": ("pixel_llm.cli.policy.list:list_command", "List the profiles."),
    "schema": ("pixel_llm.cli.policy.schema:schema_command", "Print the JSON Schema of policy files."),
    "show": ("pixel_llm.cli.policy.show:show_command", "Show the effective policy, and where each value comes from."),
    "validate": ("pixel_llm.cli.policy.validate:validate_command", "Check policy files."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
def policy_group() -> None:
    """Check policies, look into them, compare them."""
