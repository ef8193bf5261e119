"""``pixel-llm policy schema``"""

from __future__ import annotations

import click

from pixel_llm.policy import render_schema


@click.command("schema")
def schema_command() -> None:
    """
    Print the JSON Schema of policy files, for editors and other checkers.

    Save it beside your policies and name it in their first line:

        # yaml-language-server: $schema=policy.schema.json
    """
    click.echo(render_schema(), nl=False)
