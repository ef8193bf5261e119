"""Whole examinations, against servers on real sockets that are well, ill, strange or silent."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pixel_llm.doctor import CheckResult, Examination, Outcome, examine
from pixel_llm.doctor.examining import CHECKS_OF_A_SERVER, CHECKS_OF_THE_POLICY
from pixel_llm.testing import Answer, Drip, EmptyChoices, Garbage, Hang, ScriptedLMStudio, Status, Step, WrongType

MODEL = "qwen2.5-vl-7b-instruct"
STATES = ("/api/v1/models", "/api/v0/models")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No policies of this checkout, no settings of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("PIXEL_LLM_PROFILE", "PIXEL_LLM_POLICIES", "PIXEL_LLM_OVERLAYS", "LM_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Start a scripted LM Studio."""
    with ExitStack() as exits:
        yield lambda *script, **options: exits.enter_context(ScriptedLMStudio(list(script), **options))


def look(server: ScriptedLMStudio | str, *, timeout: float = 20.0, **settings: Any) -> Examination:
    """Examine; *settings* are those of `lm_studio`."""
    url = server if isinstance(server, str) else server.base_url
    return examine(overrides={"lm_studio": {"base_url": url, **settings}}, timeout=timeout)


def named(examination: Examination, name: str) -> CheckResult:
    return next(result for result in examination.results if result.name == name)


def outcomes(examination: Examination, *names: str) -> list[str]:
    return [named(examination, name).outcome.value for name in names]


class TestExamine:
    def test_all_is_well(self, serve):
        """Against a server that is well every check is fine, and has nothing to be done."""
        examination = look(serve())

        assert [(check.name, "ok", "") for check in (*CHECKS_OF_THE_POLICY, *CHECKS_OF_A_SERVER)] == [
            (result.name, result.outcome.value, result.todo) for result in examination.results
        ]
        assert (True, "basic", MODEL) == (examination.is_fine, examination.profile, examination.model)

    def test_asks_for_one_token(self, serve):
        """Two chats of one token are asked for: one of words, one with a picture; nothing else is generated."""
        server = serve()
        look(server)
        chats = [request.body for request in server.requests if request.method == "POST"]

        assert [1, 1] == [chat["max_tokens"] for chat in chats]
        assert [str, list] == [type(chat["messages"][0]["content"]) for chat in chats]

    def test_leaves_no_connection_open(self, serve):
        """Afterwards the server has no connection left that waits for a request."""
        server = serve(keep_alive=60.0)
        look(server)
        server.refuse()  # closes those that are idle
        server.accept()
        before = threading.active_count()
        look(server)

        assert before >= threading.active_count() - 1  # the worker thread that waits for a next check

    def test_policy_is_wrong(self, serve):
        """Without a policy there is nothing to look at; its problems are told with their places."""
        examination = examine(overrides={"lm_studio": {"model": 7}})

        assert outcomes(examination, "policy", "rules", "server", "vision") == [
            "failed",
            "skipped",
            "skipped",
            "skipped",
        ]
        assert "lm_studio.model: must be" in named(examination, "policy").message
        assert "because policy failed" == named(examination, "vision").message
        assert (False, None) == (examination.is_fine, examination.model)

    def test_linter_complains(self, serve, tmp_path):
        """What the linter warns of is told, and stops nothing."""
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "mine.yaml").write_text(
            "version: 1\nextends: basic\ntargets:\n  lm_studio.chat: {deadline: 1s, timeout: 30s}\n"
        )
        examination = examine(profile="mine", overrides={"lm_studio": {"base_url": serve().base_url}})

        assert ["ok", "warning", "ok"] == outcomes(examination, "policy", "rules", "round trip")
        assert "mine.yaml:4" in named(examination, "rules").message

    def test_key_fits_into_no_header(self, monkeypatch):
        """A key that no client takes fails the server, and is not shown."""
        monkeypatch.setenv("LM_STUDIO_API_KEY", "schlüssel")
        result = named(look("http://127.0.0.1:9/v1", api_key="${LM_STUDIO_API_KEY}"), "server")

        assert "failed" == result.outcome
        assert "schlüssel" not in f"{result}"

    def test_password_is_not_shown(self, serve):
        """What stands in the base URL before the @ is nowhere in the result."""
        url = serve(api_key="k").base_url.replace("//", "//user:secretword@")

        assert "secretword" not in str(look(url))

    def test_encoder_cannot_be_loaded(self, serve, tmp_path):
        """An encoder that can't be loaded fails its own check alone."""
        overrides = {"lm_studio": {"base_url": serve().base_url}, "encoder": {"type": "vit", "checkpoint": "none.pt"}}
        examination = examine(overrides=overrides)

        assert ["failed", "ok"] == outcomes(examination, "encoder", "round trip")
        assert "none.pt" in named(examination, "encoder").message

    def test_encoder_is_not_needed(self, serve):
        """Where only the image is sent, and never described instead, the encoder is not loaded."""
        examination = look(serve(), vision="image", without_vision="fail")

        assert "skipped" == named(examination, "encoder").outcome


class TestSeveralServers:
    def test_each_is_looked_at(self, serve):
        """Each endpoint has checks of its own, with its own key; one that is down skips its own alone."""
        up, down = serve(api_key="right"), serve()
        down.refuse()
        endpoints = [{"base_url": down.base_url}, {"base_url": up.base_url, "api_key": "${KEY}"}]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KEY", "right")
            examination = examine(overrides={"lm_studio": {"endpoints": endpoints}})

        assert [("failed", down.base_url), ("ok", up.base_url)] == [
            (result.outcome, result.server) for result in examination.results if result.name == "server"
        ]
        assert ["skipped", "ok"] == [result.outcome for result in examination.results if result.name == "vision"]

    def test_settings_are_named_where_they_stand(self, serve):
        """What to do names the settings of that endpoint: those of a single server have no effect."""
        down, locked = serve(), serve(api_key="right")
        down.refuse()
        endpoints = [{"base_url": down.base_url}, {"base_url": locked.base_url}]
        examination = examine(overrides={"lm_studio": {"endpoints": endpoints}})
        failed = [result for result in examination.results if result.outcome is Outcome.FAILED]

        assert "lm_studio.endpoints[1].api_key" in failed[1].todo
        assert not any("lm_studio.api_key" in f"{result}" or "lm_studio.base_url" in f"{result}" for result in failed)

    def test_cold_start(self, serve):
        """A model that the policy has loaded need not be."""
        assert "ok" == named(look(serve(loaded=[]), cold_start={"grace": "60s"}), "loaded").outcome


class TestServer:
    def test_refuses(self, serve):
        """A port that refuses fails the server, says what to start, and skips the rest."""
        server = serve()
        server.refuse()
        examination = look(server)

        assert ["failed", *["skipped"] * 6] == outcomes(
            examination, "server", "key", "model", "loaded", "context", "round trip", "vision"
        )
        assert "start LM Studio" in named(examination, "server").todo

    @pytest.mark.parametrize(
        "step",
        [
            pytest.param(WrongType(path="/v1/models"), id="a page"),
            pytest.param(WrongType(path="/v1/models", status=502), id="a page with 502"),
            pytest.param(Garbage(path="/v1/models"), id="no HTTP"),
            pytest.param(Garbage(path="/v1/models", kind="json"), id="no JSON"),
            pytest.param(Status(path="/v1/models", status=404), id="404"),
            pytest.param(Status(path="/v1/models", status=500), id="500"),
        ],
    )
    def test_answers_nonsense(self, serve, step: Step):
        """Whatever is no list of models fails the server, with something to do."""
        result = named(look(serve(step)), "server")

        assert "failed" == result.outcome
        assert result.todo

    @pytest.mark.parametrize(
        "step", [Hang(path="/v1/models"), Drip(path="/v1/models", part="headers", interval=0.2)], ids=["hangs", "drips"]
    )
    def test_gives_no_answer(self, serve, step: Step):
        """A server that hangs or drips takes no longer than the limit."""
        started = time.monotonic()
        examination = look(serve(step), timeout=0.4, vision="image", without_vision="fail")

        assert "failed" == named(examination, "server").outcome
        assert "--timeout" in named(examination, "server").todo
        assert time.monotonic() - started < 10

    def test_never_says_a_word(self):
        """A listener that takes connections, and never reads, is given up."""
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            examination = look(url, timeout=0.3, vision="image", without_vision="fail")

        assert "failed" == named(examination, "server").outcome

    def test_wants_a_key(self, serve):
        """A server that wants a key is a server; the key fails, and says where one comes from."""
        examination = look(serve(api_key="right"))

        assert ["ok", "failed", "skipped"] == outcomes(examination, "server", "key", "round trip")
        assert "no key is set" in named(examination, "key").message

    def test_wants_another_key(self, serve, monkeypatch):
        """A wrong key is told apart from none, and not shown."""
        monkeypatch.setenv("LM_STUDIO_API_KEY", "wrong-key")
        result = named(look(serve(api_key="right"), api_key="${LM_STUDIO_API_KEY}"), "key")

        assert "failed" == result.outcome
        assert "no key is set" not in result.message
        assert "wrong-key" not in f"{result}"

    def test_accepts_the_key(self, serve, monkeypatch):
        """The right key is accepted."""
        monkeypatch.setenv("LM_STUDIO_API_KEY", "right")
        examination = look(serve(api_key="right"), api_key="${LM_STUDIO_API_KEY}")

        assert examination.is_fine


class TestModel:
    def test_is_not_there(self, serve):
        """A model that LM Studio does not have fails; a name that is close is suggested."""
        examination = look(serve(models=["qwen2.5-vl-7b-instruct", "gemma"]), model="qwen2.5-vl-7b-instrukt")
        result = named(examination, "model")

        assert ["failed", "skipped"] == outcomes(examination, "model", "round trip")
        assert 'did you mean "qwen2.5-vl-7b-instruct"' in result.todo

    def test_is_not_loaded(self, serve):
        """A model that is loaded just in time is a warning: the first call waits."""
        examination = look(serve(loaded=[]))

        assert ["warning", "ok"] == outcomes(examination, "loaded", "round trip")
        assert f"lms load {MODEL}" in named(examination, "loaded").todo
        assert examination.is_fine

    def test_context_is_too_short(self, serve):
        """An answer as long as the context fails."""
        examination = look(serve(), generation={"max_tokens": 4096})

        assert "failed" == named(examination, "context").outcome

    def test_server_without_lists_of_its_own(self, serve):
        """A server like llama.cpp's: what it does not tell is skipped, a name that it does not list is a warning."""
        absent = [Status(path=path, status=404, message="File Not Found") for path in STATES]
        examination = look(serve(*absent, models=["/models/gemma.gguf"]), model="gemma-3")

        assert ["warning", "skipped", "skipped", "ok", "ok"] == outcomes(
            examination, "model", "loaded", "context", "round trip", "vision"
        )
        assert examination.is_fine

    def test_own_list_is_broken(self, serve):
        """Where LM Studio's own list can't be read, the checks that need it say why, and the others go on."""
        examination = look(serve(Status(path=STATES[0], status=500, message="Oops")))

        assert ["ok", "skipped", "skipped", "ok"] == outcomes(examination, "model", "loaded", "context", "round trip")
        assert "Oops" in named(examination, "loaded").message


class TestAnswers:
    def test_token_without_text(self, serve):
        """One token that holds no text is an answer, but nobody knows whether a caption will: that is a warning."""
        thinking = look(serve(then=Answer(text="", reasoning_content="Hm", finish_reason="length")))
        silent = look(serve(then=Answer(text="", finish_reason="stop")))

        assert ["warning", "ok"] == outcomes(thinking, "round trip", "vision")
        assert "only of reasoning" in named(thinking, "round trip").message
        assert "raise lm_studio.generation.max_tokens" in named(thinking, "round trip").todo
        assert "an answer without a word came" in named(silent, "round trip").message
        assert thinking.is_fine

    def test_says_how_long_to_wait(self, serve):
        """What a server says about when to come back is told, with what to do beside it."""
        result = named(look(serve(Status(status=429, retry_after=900))), "round trip")

        assert "(429; retry_after 900 s)" in result.message
        assert "ask less often, or wait as long as retry_after says" == result.todo

    def test_plain_http(self, serve):
        """Over TLS to a server without it: http:// is what is to be written."""
        result = named(look(serve().base_url.replace("http:", "https:")), "server")

        assert "write http:// in base_url" in result.todo

    @pytest.mark.parametrize(
        "step", [EmptyChoices(), WrongType(), Status(status=500, message="The model has crashed")], ids=repr
    )
    def test_no_answer(self, serve, step: Step):
        """A chat that gives no answer fails; no picture is sent then."""
        server = serve(step)
        examination = look(server)

        assert ["failed", "skipped"] == outcomes(examination, "round trip", "vision")
        assert 1 == sum(request.method == "POST" for request in server.requests)

    def test_hangs(self, serve):
        """A chat that hangs takes no longer than the limit."""
        examination = look(serve(Hang()), timeout=0.5, vision="image", without_vision="fail")

        assert "failed" == named(examination, "round trip").outcome

    def test_another_model_answers(self, serve):
        """An answer of a model that was not asked is a warning."""
        result = named(look(serve(then=Answer(text="Yes", model="gemma"))), "round trip")

        assert "warning" == result.outcome
        assert "from gemma" in result.message

    @pytest.mark.parametrize(("without_vision", "outcome"), [("fail", "failed"), ("description", "warning")])
    def test_takes_no_pictures(self, serve, without_vision, outcome):
        """A model that refuses pictures fails, or is a warning where the description stands in."""
        refusal = Status(status=400, message="Model does not support images. Please use a model that does.")
        examination = look(serve(Answer(), refusal), without_vision=without_vision)

        assert outcome == named(examination, "vision").outcome
        assert "vision model" in named(examination, "vision").todo

    def test_gets_no_pictures(self, serve):
        """Where only the description is sent, no picture is."""
        server = serve()
        examination = look(server, vision="description")

        assert "skipped" == named(examination, "vision").outcome
        assert 1 == sum(request.method == "POST" for request in server.requests)


def test_every_failure_says_what_to_do(serve):
    """Whatever fails or warns says what to do."""
    servers = [serve(api_key="k"), serve(models=[]), serve(loaded=[]), serve(then=Status(status=503))]
    results = [result for server in servers for result in look(server).results]

    assert all(bool(result.todo) == (result.outcome in (Outcome.FAILED, Outcome.WARNING)) for result in results)
