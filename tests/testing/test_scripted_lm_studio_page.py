"""The page on the scripted LM Studio says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pixel_llm.testing.script import load_script
from pixel_llm.testing.steps import STEP_TYPES, field_types

PAGE = (Path(__file__).parents[2] / "docs/how-to/scripted-lm-studio.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


class TestPage:
    def test_python_runs(self):
        """
        The tests on the page pass, the other snippet runs.
        """
        namespaces = []
        for block in blocks("python"):
            namespaces.append({})
            exec(block, namespaces[-1])
        tests = namespaces[0]
        tests["test_second_attempt_succeeds"]()
        (mark,) = tests["test_gives_up"].pytestmark
        for step in mark.args[1]:
            tests["test_gives_up"](step)

        assert 2 == len(namespaces)

    def test_script_loads(self, tmp_path):
        """
        The script on the page is sound, and has as many steps as the page says.
        """
        (text,) = blocks("yaml")
        path = tmp_path / "outage.yaml"
        path.write_text(text, encoding="utf-8")

        assert f"{len(load_script(path).steps)} steps)" in PAGE

    @pytest.mark.parametrize("name", STEP_TYPES)
    def test_table_is_complete(self, name):
        """
        Every step has a row with all of its own fields.
        """
        step_type = STEP_TYPES[name]
        (row,) = re.findall(rf"^\| `{step_type.__name__}` \| `{name}` \|.*$", PAGE, flags=re.MULTILINE)
        inherited = set(field_types(step_type.__base__)) if step_type.__base__ in STEP_TYPES.values() else {"path"}

        assert [] == [field for field in field_types(step_type) if field not in inherited and f"`{field}`" not in row]
