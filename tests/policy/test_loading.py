from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError, ProblemSeverity
from pixel_llm.policy import (
    FallbackStep,
    FallbackStrategy,
    LogLevel,
    PolicyConfig,
    RetryConfig,
    RetryStrategy,
    TimeoutConfig,
    load_policy,
    load_policy_file,
    profiles_in,
    shipped_folder,
)
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.lint import find_rule
from pixel_llm.policy.loading import load_from
from pixel_llm.policy.sections.document import POLICY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory without the variables that loading looks at."""
    monkeypatch.chdir(tmp_path)
    for name in ("PIXEL_LLM_POLICIES", "PIXEL_LLM_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def load(text: str, variables: dict[str, str] | None = None, **overrides: object) -> PolicyConfig:
    """Load *text*, after its version, as a policy in the working directory."""
    Path("p.yaml").write_text(f"version: 1\n{text}\n", encoding="utf-8")
    return load_policy_file(Path("p.yaml"), overrides=overrides, variables=variables or {}).config


def problems(text: str, variables: dict[str, str] | None = None, **overrides: object) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(text, variables, **overrides)
    assert [str(problem) for problem in caught.value.problems] == str(caught.value).splitlines()
    return str(caught.value).splitlines()


class TestLoadPolicy:
    def test_basic_by_default(self, folder):
        """
        With nothing said, it is the profile `basic`.
        """
        loaded = load_policy()

        assert ("basic", shipped_folder("policies") / "basic.yaml") == (loaded.profile, loaded.file)

    def test_profile_from_the_environment(self, folder, monkeypatch):
        """
        The variable names the profile; the argument comes before it, an empty one does not count.
        """
        monkeypatch.setenv("PIXEL_LLM_PROFILE", "production")

        assert "production" == load_policy().profile
        assert "low-latency" == load_policy(profile="low-latency").profile
        assert "production" == load_policy(profile="").profile

    def test_variables_stand_for_the_environment(self, folder, monkeypatch):
        """
        Variables that are given are all there is: the environment is not looked at.
        """
        (folder / "mine").mkdir()
        (folder / "mine" / "p.yaml").write_text("version: 1\ndescription: ${A:-unset}\n")
        monkeypatch.setenv("PIXEL_LLM_PROFILE", "production")
        monkeypatch.setenv("A", "from the environment")

        variables = {"PIXEL_LLM_POLICIES": "mine", "PIXEL_LLM_PROFILE": "p"}

        assert "unset" == load_policy(variables=variables).config.description
        assert "from the environment" == load_policy("mine", "p").config.description

    def test_own_profile_over_a_shipped_one(self, folder):
        """
        A folder's own profile counts, and extends the shipped ones by name.
        """
        (folder / "policies").mkdir()
        (folder / "policies" / "production.yaml").write_text("version: 1\nextends: basic\ndescription: Ours.\n")
        loaded = load_policy(profile="production", variables={})

        assert ("Ours.", Path("policies/production.yaml")) == (loaded.config.description, loaded.file)
        assert 3 == loaded.config.targets["lm_studio.chat"].retry.max_attempts

    def test_unknown_profile(self, folder):
        """
        An unknown profile is an error that names the folder and what was meant.
        """
        with pytest.raises(PolicyError) as caught:
            load_policy(shipped_folder("policies"), "prodution", variables={})

        assert str(caught.value).endswith(": there is no profile 'prodution'; did you mean \"production\"?")


class TestLoadPolicyFile:
    def test_missing(self, folder):
        """
        A file that is not there is a problem of the policy, in a folder that is not there too.
        """
        for name in ("p.yaml", "nowhere/p.yaml"):
            with pytest.raises(PolicyError) as caught:
                load_policy_file(Path(name))

            assert f"{name}: cannot be read: No such file or directory" == str(caught.value)

    def test_any_name(self, folder):
        """
        A file that is asked for by its path may have any name.
        """
        Path("policy.txt").write_text("version: 1\nextends: basic\n")

        assert "policy" == load_policy_file(Path("policy.txt"), variables={}).profile


class TestLoadFrom:
    def test_what_is_in_no_file(self, folder):
        """
        A policy may come from anywhere: what its file holds is handed over, and places name the file.
        """
        path = Path("standard-input")
        sources = Sources(profiles_in(folder))
        sources.add(path, b"version: 1\nextends: production\ndescription: From a pipe.\n")
        loaded = load_from(sources, path, variables={})

        assert ("standard-input", "From a pipe.") == (loaded.profile, loaded.config.description)
        assert "standard-input:3:14" == str(loaded.document.find(["description"]).place)

    def test_problems(self, folder):
        """
        What is wrong in it is a problem like any other.
        """
        sources = Sources(profiles_in(folder))
        sources.add(Path("-"), b"version: 1\n\tx")
        with pytest.raises(PolicyError) as caught:
            load_from(sources, Path("-"), variables={})

        assert "-:2:1: is not YAML: a tab can't indent; use spaces" == str(caught.value)


class TestLoadedPolicy:
    TEXT = (
        "version: 1\nextends: parent\ndefaults: {deadline: 9s}\n"
        "templates: {retry: {patient: {max_attempts: 5}, unused: {}}}\n"
        "targets: {lm_studio.*: {retry: patient}, mail: {timeout: '${T}'}}\n"
    )

    @pytest.fixture
    def loaded(self, folder):
        Path("parent.yaml").write_text("version: 1\ndescription: ${D}\n")
        Path("p.yaml").write_text(self.TEXT)
        return load_policy_file(Path("p.yaml"), variables={"T": "3s", "D": "d"})

    def test_document_is_what_holds(self, loaded):
        """
        The document is the effective policy, each value with its place: nothing is left to work out.
        """
        document = loaded.document.plain()

        assert {"version", "description", "targets"} == set(document)
        assert {"deadline": "9s", "timeout": {"attempt": "3s"}} == document["targets"]["mail"]
        assert {"deadline": "9s", "retry": {"max_attempts": 5}} == document["targets"]["lm_studio.models"]
        assert "parent.yaml:2:14" == str(loaded.document.find(["description"]).place)
        assert loaded.config == POLICY.freeze(document)

    def test_written_is_what_was_merged(self, loaded):
        """
        What was written is the merged files, before anything is worked out.
        """
        written = loaded.written.plain()

        assert ("${D}", {"timeout": "${T}"}) == (written["description"], written["targets"]["mail"])
        assert {"defaults", "templates"} < set(written)

    def test_sources_are_the_files(self, loaded):
        """
        Every file that was read is there as it was written.
        """
        assert {Path("p.yaml"), Path("parent.yaml")} == set(loaded.sources)
        assert "parent" == loaded.sources[Path("p.yaml")].plain()["extends"]

    def test_used_templates(self, loaded):
        """
        The templates that a target took, those of patterns and `defaults` included.
        """
        assert {("retry", "patient")} == loaded.used_templates


class TestRules:
    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("\t", "PL001"),
            ("a: 1\na: 1", "PL001"),
            ("description: yes", "PL002"),
            ("colour: red", "PL003"),
            ("extends: mars", "PL004"),
            ("description: ${UNSET}", "PL005"),
            ("targets: {lm_studio.chat: {retry: patient}}", "PL006"),
            ("targets: {lm_studio.chta: {}}", "PL010"),
            ("targets: {a: {retry: {}}}", "PL011"),
            ("targets: {lm_studio.chat: {retry: {max_delay: 1ms}}}", "PL012"),
            ("targets: {a: {fallback: [cache: {}, cache: {}]}}", "PL013"),
            ("lm_studio: {base_url: 'http://h:99999/v1'}", "PL014"),
        ],
    )
    def test_each_problem_names_its_own(self, folder, text, rule):
        """
        Every problem carries the id of the rule that it breaks, and is an error.
        """
        with pytest.raises(PolicyError) as caught:
            load(text)

        assert {(rule, ProblemSeverity.ERROR)} == {
            (problem.rule, problem.severity) for problem in caught.value.problems
        }
        assert find_rule(rule).severity is ProblemSeverity.ERROR


class TestFreezing:
    def test_durations_are_float_seconds(self, folder):
        """
        In the model there are only seconds.
        """
        config = load("targets: {a: {deadline: 1h30m, timeout: {attempt: 500ms, connect: 1m}}}")
        target = config.targets["a"]

        assert (5400.0, TimeoutConfig(attempt=0.5, connect=60.0)) == (target.deadline, target.timeout)

    def test_short_timeout(self, folder):
        """
        A bare duration is the attempt's.
        """
        assert TimeoutConfig(attempt=30.0) == load("targets: {a: {timeout: 30s}}").targets["a"].timeout

    def test_fallback_steps(self, folder):
        """
        A step is a bare name or a map with one key; the value may be anything, null too.
        """
        config = load("targets: {a: {fallback: [default_value: null, {default_value: {a: [1]}}, none]}}")
        expected = (
            FallbackStep(FallbackStrategy.DEFAULT_VALUE),
            FallbackStep(FallbackStrategy.DEFAULT_VALUE, value={"a": [1]}),
            FallbackStep(FallbackStrategy.NONE),
        )

        assert expected == config.targets["a"].fallback

    def test_whole_number_with_a_point(self, folder):
        """
        ``3.0`` is a whole number, as JSON Schema has it, and a whole number in the model.
        """
        actual = load("targets: {lm_studio.chat: {retry: {max_attempts: 3.0}}}").targets["lm_studio.chat"].retry

        assert (3, int) == (actual.max_attempts, type(actual.max_attempts))

    def test_templates_are_used_up(self, folder):
        """
        A target has its template's layer; a template may be overridden where it is defined.
        """
        config = load(
            "templates: {retry: {patient: {max_attempts: 5}}}\ntargets: {lm_studio.chat: {retry: patient}}",
            templates={"retry": {"patient": {"strategy": "immediate"}}},
        )

        assert RetryConfig(max_attempts=5, strategy=RetryStrategy.IMMEDIATE) == config.targets["lm_studio.chat"].retry

    def test_variables_in_a_template(self, folder):
        """
        A template's variables are resolved where it is defined.
        """
        config = load(
            'templates: {retry: {patient: {max_attempts: "${N}"}}}\ntargets: {lm_studio.chat: {retry: patient}}',
            {"N": "7"},
        )

        assert 7 == config.targets["lm_studio.chat"].retry.max_attempts


class TestOverrides:
    def test_are_laid_over_the_profile(self, folder):
        """
        Overrides merge as a file on top would: null removes, what they leave out stays.
        """
        config = load(
            "extends: basic",
            logging={"level": "DEBUG"},
            targets={"lm_studio.chat": {"retry": {"max_attempts": 2}, "circuit_breaker": None}},
        )
        chat = config.targets["lm_studio.chat"]

        assert LogLevel.DEBUG == config.logging.level
        assert (2, 1.0, None) == (chat.retry.max_attempts, chat.retry.initial_delay, chat.circuit_breaker)

    def test_take_members_of_enumerations(self, folder):
        """
        In Python, the enumerations' members say the same as their texts.
        """
        config = load("", targets={"lm_studio.chat": {"retry": {"strategy": RetryStrategy.IMMEDIATE}}})

        assert RetryStrategy.IMMEDIATE is config.targets["lm_studio.chat"].retry.strategy

    def test_take_variables(self, folder):
        """
        An override may refer to variables as a file may.
        """
        assert "x" == load("", {"MODEL": "x"}, lm_studio={"model": "${MODEL}"}).lm_studio.model

    def test_problems_say_where_they_come_from(self, folder):
        """
        What is wrong in an override is not blamed on a file.
        """
        assert ["<overrides>: lm_studio.modell: unknown key 'modell'; did you mean \"model\"?"] == problems(
            "extends: basic", lm_studio={"modell": "x"}
        )

    def test_problems_of_meaning_too(self, folder):
        """
        A value that came from an override still says so when the merged policy makes no sense.
        """
        expected = [
            "<overrides>: targets.lm_studio.chat.retry.max_delay: must be at least initial_delay, 1s (got 10ms)"
        ]

        assert expected == problems("extends: basic", targets={"lm_studio.chat": {"retry": {"max_delay": "10ms"}}})

    def test_together_with_the_file_s(self, folder):
        """
        Problems of the overrides and of the file are reported at once.
        """
        expected = ["<overrides>: colour: unknown key", "p.yaml:2:1: color: unknown key"]

        assert expected == [line.split(" '")[0] for line in problems("color: x", colour="y")]

    def test_of_an_unreadable_file(self, folder):
        """
        Overrides are checked even if the file cannot be read.
        """
        Path("p.yaml").write_text("- a list\n")
        with pytest.raises(PolicyError) as caught:
            load_policy_file(Path("p.yaml"), overrides={"version": 2}, variables={})

        assert ["<overrides>", "p.yaml"] == [problem.place.file for problem in caught.value.problems]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Path("x.log"), f"(got {Path('x.log')!r})"),
            (timedelta(seconds=5), "(got datetime.timedelta(seconds=5))"),
            (b"x", "(got b'x')"),
            (("a",), "(got a list)"),
        ],
    )
    def test_what_no_file_could_hold(self, folder, value, text):
        """
        A Python object in an override is a problem like any other.

        A path used to end in a TypeError.
        """
        (line,) = problems("", logging={"file": value})

        assert line.startswith("<overrides>: logging.file: must be the path of a file ")
        assert line.endswith(text)

    def test_extends(self, folder):
        """
        An override cannot bring in another profile.
        """
        (line,) = problems("", extends="basic")

        assert "<overrides>: extends: what is laid over a profile extends nothing by itself" == line


class TestAllProblemsAtOnce:
    def test_of_the_schema(self, folder):
        """
        Every violation of the schema is reported, in the order of the places, parents too.
        """
        Path("parent.yaml").write_text("version: 1\nlogging: {level: LOUD}\ncolour: red\n")
        expected = ["p.yaml:3:1", "p.yaml:4:15", "p.yaml:4:27", "parent.yaml:2:18", "parent.yaml:3:1"]
        lines = problems("extends: parent\ncolor: blue\ntargets: {a: {deadline: 5, timeout: 6}}")

        assert sorted(lines) == lines
        assert len(expected) == len(lines)

    def test_lines_sort_as_numbers(self, folder):
        """
        Line 9 comes before line 10.
        """
        lines = problems("\n" * 7 + "a: 1\nb: 1")

        assert ["p.yaml:9:1", "p.yaml:10:1"] == [line.split(": ")[0] for line in lines]

    def test_of_variables_and_templates(self, folder):
        """
        What variables and templates lack is reported together.
        """
        lines = problems("description: ${A}\nlogging: {file: '${B}'}\ntargets: {lm_studio.chat: {retry: patient}}")

        assert ["description", "logging.file", "targets.lm_studio.chat.retry"] == [
            line.split(": ")[1] for line in lines
        ]

    def test_of_meaning(self, folder):
        """
        Every rule across fields is checked.
        """
        lines = problems(
            "targets:\n"
            "  encoder.frward: {timeout: 1s}\n"
            "  mine: {retry: {initial_delay: 2m}, fallback: [cache: {}, cache: {}]}"
        )

        assert ["p.yaml:3:3", "p.yaml:4:10", "p.yaml:4:17", "p.yaml:4:60"] == [line.split(": ")[0] for line in lines]

    def test_each_once(self, folder):
        """
        A parent that is reached twice is reported once.
        """
        Path("root.yaml").write_text("version: 1\ncolour: red\nextends: mars\n")
        for name in ("one", "two"):
            Path(f"{name}.yaml").write_text("version: 1\nextends: root\n")

        assert ["root.yaml:2:1", "root.yaml:3:10"] == [line.split(": ")[0] for line in problems("extends: [one, two]")]

    def test_on_one_line_each(self, folder):
        """
        Whatever a file holds, a problem is one line of printable text: nothing breaks a report or moves a cursor.
        """
        (line,) = problems('"a\\nb\\e[2J": 1')

        assert line.startswith(r"p.yaml:2:1: a\nb\x1b[2J: unknown key 'a\nb\x1b[2J'")
