from __future__ import annotations

import os
from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.policy import LoadedPolicy, TimeoutConfig, load_policy, load_policy_file
from pixel_llm.runtime import load_policies

PROFILE = """version: 1
logging: {level: ERROR, console: true}
targets:
  mail: {deadline: 60s, timeout: 5s, fallback: [none]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory, with the profile ``shop`` in ``policies``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIXEL_LLM_OVERLAYS", raising=False)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(PROFILE)


def write(name: str, text: str) -> str:
    Path(name).write_text(f"version: 1\n{text}\n")
    return name


def load(*overlays: str | Path, **more: object) -> LoadedPolicy:
    return load_policy("policies", "shop", overlays=overlays, variables={}, **more)


def problems(*overlays: str | Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(*overlays)
    return str(caught.value).splitlines()


class TestOverlays:
    @pytest.mark.parametrize("form", [str, Path])
    def test_may_be_one_file(self, form):
        """
        A single name needs no list around it; its letters are no files.
        """
        overlay = form(write("o.yaml", "logging: {level: DEBUG}"))

        assert "DEBUG" == load_policy("policies", "shop", overlays=overlay, variables={}).config.logging.level
        with load_policies("policies", "shop", overlays=overlay, variables={}) as policies:
            assert "DEBUG" == policies.config.logging.level

    def test_lie_over_the_profile(self):
        """
        Maps merge, lists replace, null removes; what an overlay leaves out stays.
        """
        config = load(
            write("o.yaml", "targets: {mail: {timeout: {connect: 1s}, fallback: [raise], deadline: null}}")
        ).config
        mail = config.targets["mail"]

        assert (TimeoutConfig(attempt=5.0, connect=1.0), None) == (mail.timeout, mail.deadline)
        assert ["raise"] == [step.strategy for step in mail.fallback]
        assert config.logging.console

    def test_in_the_order_given(self):
        """
        Of several overlays the last one counts.
        """
        first, second = write("1.yaml", "description: one"), write("2.yaml", "description: two")

        assert "two" == load(first, second).config.description
        assert "one" == load(Path(second), Path(first)).config.description

    def test_may_come_from_anywhere(self, tmp_path_factory):
        """
        An overlay need not lie beside the profile, nor have a name that a profile could have.
        """
        file = tmp_path_factory.mktemp("elsewhere") / "for the night.txt"

        assert "night" == load(write(str(file), "description: night")).config.description

    def test_lie_below_overrides(self):
        """
        What code says counts before what overlays say.
        """
        overlay = write("o.yaml", "description: overlay\nlogging: {level: DEBUG}")
        config = load(overlay, overrides={"description": "code"}).config

        assert ("code", "DEBUG") == (config.description, config.logging.level)

    def test_may_bring_templates_defaults_and_patterns(self):
        """
        What is used up later is merged first: an overlay can change all of it.
        """
        overlay = write(
            "o.yaml",
            "templates: {circuit_breaker: {quick: {failure_threshold: 2}}}\n"
            "defaults: {idempotent: true}\ntargets: {mail: {circuit_breaker: quick}, shop.*: {timeout: 1s}}",
        )
        targets = load(overlay).config.targets

        assert (2, True) == (targets["mail"].circuit_breaker.failure_threshold, targets["mail"].idempotent)
        assert (1.0, True) == (targets["shop.*"].timeout.attempt, targets["shop.*"].idempotent)

    def test_may_take_variables(self):
        """
        References are resolved after everything is merged: what is overlaid need not be set.
        """
        write("policies/shop.yaml", "description: ${UNSET}")

        assert "x" == load(write("o.yaml", "description: ${ALSO_UNSET:-x}")).config.description

    def test_values_keep_their_files(self):
        """
        Every value knows whether the overlay or the profile says it.
        """
        loaded = load(write("o.yaml", "logging: {level: DEBUG}"))
        logging = loaded.document.find(["logging"])

        assert "o.yaml:2:18" == str(logging.find(["level"]).place)
        assert "policies/shop.yaml:2:34" == str(logging.find(["console"]).place)
        assert [Path("policies/shop.yaml"), Path("o.yaml")] == list(loaded.sources)


class TestVariable:
    def test_names_them(self):
        """
        Without overlays given, those of ``$PIXEL_LLM_OVERLAYS`` count, separated as in ``$PATH``.
        """
        names = [write("1.yaml", "description: one"), "", write("2.yaml", "logging: {level: DEBUG}")]
        variables = {"PIXEL_LLM_OVERLAYS": os.pathsep.join(names)}
        config = load_policy("policies", "shop", variables=variables).config

        assert ("one", "DEBUG") == (config.description, config.logging.level)

    def test_of_the_environment(self, monkeypatch):
        """
        The environment is where the variable is looked for.
        """
        monkeypatch.setenv("PIXEL_LLM_OVERLAYS", write("1.yaml", "description: one"))

        assert "one" == load_policy_file(Path("policies/shop.yaml")).config.description

    @pytest.mark.parametrize("given", [[], ["2.yaml"]])
    def test_does_not_count_where_overlays_are_given(self, given):
        """
        An argument stands for the variable, be it an empty list.
        """
        write("2.yaml", "logging: {level: DEBUG}")
        variables = {"PIXEL_LLM_OVERLAYS": write("1.yaml", "description: one")}

        assert "" == load_policy("policies", "shop", overlays=given, variables=variables).config.description


class TestProblems:
    def test_of_every_overlay_and_the_profile(self):
        """
        What is wrong in any of the files is reported at once.
        """
        write("policies/shop.yaml", "colour: red")
        lines = problems(write("1.yaml", "colour: green"), "none.yaml", write("2.yaml", "targets: [\n"))

        assert ["1.yaml:2:1", "2.yaml:4:1", "none.yaml", "policies/shop.yaml:2:1"] == [
            line.split(": ")[0] for line in lines
        ]

    def test_extends(self):
        """
        An overlay is laid over a profile; it extends nothing by itself, not even nothing.
        """
        for value in ("basic", "null"):
            assert ["o.yaml:2:1: extends: what is laid over a profile extends nothing by itself"] == problems(
                write("o.yaml", f"extends: {value}")
            )

    def test_version(self):
        """
        An overlay is a policy file: it says which language it is in.
        """
        Path("o.yaml").write_text("description: x\n")

        assert ["o.yaml:1:1: the key 'version' is missing"] == problems("o.yaml")

    def test_of_meaning(self):
        """
        What is wrong only together is reported where it was written last.
        """
        write("policies/shop.yaml", "targets: {lm_studio.chat: {retry: {initial_delay: 5s}}}")

        assert ["o.yaml:2:47: targets.lm_studio.chat.retry.max_delay: must be at least initial_delay, 5s (got 1s)"] == (
            problems(write("o.yaml", "targets: {lm_studio.chat: {retry: {max_delay: 1s}}}"))
        )
