"""Scripts in YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.testing import (
    Answer,
    Crash,
    Drip,
    EmptyChoices,
    ErrorBody,
    Garbage,
    Hang,
    ModelLoad,
    Refuse,
    Reset,
    Status,
    Truncated,
    WrongType,
)
from pixel_llm.testing.script import Script, load_script


def load(folder: Path, text: str) -> Script:
    path = folder / "script.yaml"
    path.write_text(text, encoding="utf-8")
    return load_script(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(folder, text)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


class TestLoadScript:
    def test_what_the_server_is_like(self, tmp_path):
        """
        Beside its models a script says which are loaded, what key is wanted, and what kind of server it is.
        """
        text = "models: [a, b]\nloaded: [b]\napi_key: right\ncheck_model: true\nown_api: false\n"

        assert Script(models=("a", "b"), loaded=("b",), api_key="right", check_model=True, own_api=False) == load(
            tmp_path, text
        )
        assert [
            "script.yaml:1:9: loaded: must be a list of model names (got 'b')",
            "script.yaml:2:10: api_key: must be a text (got 7)",
            "script.yaml:3:14: check_model: must be true or false (got 1)",
        ] == problems(tmp_path, "loaded: b\napi_key: 7\ncheck_model: 1\n")

    def test_every_step(self, tmp_path):
        """
        Each step has its name, its fields are those of its class, durations have units.
        """
        script = load(
            tmp_path,
            """
            models: [a, b]
            steps:
              - refuse: {seconds: 500ms}
              - hang
              - hang: {path: /v1/models}
              - status: {status: 503, retry_after: 2, envelope: nested+message, times: 3}
              - status: {retry_after: "Wed, 21 Oct 2026 07:28:00 GMT", type: t, code: c}
              - error_body: {message: No., envelope: string}
              - answer: {text: A cat., finish_reason: length, reasoning_content: Hm., model: other}
              - answer: null
              - model_load: {seconds: 1m, text: ""}
              - drip: {part: headers, interval: 5ms}
              - reset: {when: body}
              - truncated: {part: json}
              - wrong_type: {status: 502}
              - empty_choices
              - garbage: {kind: json}
              - crash: {down: 1.5s}
            then: {answer: {text: "null"}}
            """,
        )

        assert ("a", "b") == script.models
        assert Answer(text="null") == script.then
        assert (
            Refuse(seconds=0.5),
            Hang(),
            Hang(path="/v1/models"),
            Status(status=503, retry_after=2, envelope="nested+message"),
            Status(status=503, retry_after=2, envelope="nested+message"),
            Status(status=503, retry_after=2, envelope="nested+message"),
            Status(retry_after="Wed, 21 Oct 2026 07:28:00 GMT", type="t", code="c"),
            ErrorBody(message="No.", envelope="string"),
            Answer(text="A cat.", finish_reason="length", reasoning_content="Hm.", model="other"),
            Answer(),
            ModelLoad(seconds=60, text=""),
            Drip(part="headers", interval=0.005),
            Reset(when="body"),
            Truncated(part="json"),
            WrongType(status=502),
            EmptyChoices(),
            Garbage(kind="json"),
            Crash(down=1.5),
        ) == script.steps

    def test_defaults(self, tmp_path):
        """
        What a script leaves out is as it is without a script.
        """
        script = load(tmp_path, "steps: []")

        assert Script() == script
        assert Answer() == script.then

    def test_all_problems_at_once(self, tmp_path):
        """
        Every problem is listed with its place, unknown names with a suggestion.
        """
        found = problems(
            tmp_path,
            """\
model: [a]
models: a
steps:
  - stauts
  - status: {status: 99, retry_afer: 2}
  - refuse: {seconds: 2}
  - drip: {part: all, interval: soon}
  - hang: 5
  - answer: {text: 5, times: 0}
  - error_body: {envelope: string, code: x}
  - hang: {path: v1/models}
  - {hang: null, times: 3}
then: {hang: {times: 2}}
""",
        )

        assert [
            "script.yaml:1:1: model: unknown key 'model'; did you mean \"models\"?",
            "script.yaml:2:9: models: must be a list of model names (got 'a')",
            "script.yaml:4:5: steps[0]: unknown step 'stauts'; did you mean \"status\"?",
            "script.yaml:5:22: steps[1].status.status: must be a whole number from 200 to 599 (got 99)",
            "script.yaml:5:26: steps[1].status.retry_afer: unknown field 'retry_afer'; did you mean \"retry_after\"?",
            "script.yaml:6:23: steps[2].refuse.seconds: 2 has no unit: write 2s or 2ms",
            "script.yaml:7:18: steps[3].drip.part: must be one of body, headers, chunks (got 'all')",
            "script.yaml:7:33: steps[3].drip.interval: must be a duration such as 500ms, 30s, 2m or 1h30m (got 'soon')",
            "script.yaml:8:11: steps[4].hang: must be a mapping of fields (got 5)",
            "script.yaml:9:20: steps[5].answer.text: must be text (got 5)",
            "script.yaml:9:30: steps[5].answer.times: must be a whole number from 1 to 10000 (got 0)",
            "script.yaml:10:5: steps[6].error_body: type and code need envelope 'nested' (got 'string')",
            "script.yaml:11:5: steps[7].hang: path must start with / (got 'v1/models')",
            "script.yaml:12:5: steps[8]: must be one step's name, its fields below it (got {'hang': None, 'times': 3})",
            "script.yaml:13:7: then: takes no times: it serves for ever",
        ] == found

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("steps: 5", "script.yaml:1:8: steps: must be a list of steps (got 5)"),
            ("then: refuse", "script.yaml:1:7: then: must be a step that answers requests (got refuse)"),
            ("then: {hang: {path: /x}}", "script.yaml:1:7: then: must have no path: it serves chat completions"),
            ("- hang", "script.yaml:1:1: must be a mapping of sections"),
        ],
    )
    def test_one_problem(self, tmp_path, text, expected):
        """
        A script that is no script says where and why.
        """
        assert [expected] == problems(tmp_path, text)

    def test_unknown_step_unlike_any(self, tmp_path):
        """
        A name that is like no other gets the list of all.
        """
        (problem,) = problems(tmp_path, "steps: [zzz]")

        assert problem.startswith(
            "script.yaml:1:9: steps[0]: unknown step 'zzz'; known here: answer, broken_stream, crash, drip, "
        )

    def test_unreadable(self, tmp_path):
        """
        A file that is not there is a problem of the file.
        """
        with pytest.raises(PolicyError, match=r"script\.yaml: cannot be read: No such file"):
            load_script(tmp_path / "script.yaml")
