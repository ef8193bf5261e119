"""A server that repeats what it was asked does not bring it into errors, logs or pages."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from under_policy import CHAT, policies_of

import pixel_llm
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.lm_studio.asked import NOTHING, Asked
from pixel_llm.lm_studio.payload import chat_payload
from pixel_llm.testing import BrokenStream, ErrorBody, ScriptedLMStudio, Status

PICTURE = base64.b64encode(bytes(range(256)) * 8).decode()
PROMPT = 'My name is Zoë "Z" Quux,\nand my number is 555-0199 <home>.'
SYSTEM = "Answer only in the house style of Quux & Daughters."
REQUEST = ChatRequest(
    model="qwen2.5-vl-7b-instruct",
    prompt=PROMPT,
    description="a red house beside the river Quux",
    image_data_uri=f"data:image/png;base64,{PICTURE}",
    system_prompt=SYSTEM,
)
ASKED = Asked(json.dumps(chat_payload(REQUEST)).encode())


def asked(**body):
    return Asked(json.dumps(body).encode())


def said(prompt, text):
    return asked(messages=[{"role": "user", "content": prompt}]).cut_from(text)


class TestCutFrom:
    @pytest.mark.parametrize(
        "form",
        [str, json.dumps, lambda text: json.dumps(text, ensure_ascii=False), repr, str.upper],
        ids=["plain", "json", "json in Unicode", "repr", "capitals"],
    )
    def test_leaves_none_of_the_texts(self, form):
        """
        However a server writes them down: of prompt, description and system prompt nothing is left.
        """
        for text in (PROMPT, SYSTEM, REQUEST.description):
            cut = ASKED.cut_from(" ".join(f"bad request: {form(text)}; try again".split()))

            assert cut.startswith("bad request")
            assert cut.endswith("; try again")
            assert "quux" not in cut.lower()
            assert "555" not in cut

    def test_leaves_nothing_of_a_page(self):
        """
        So it is in HTML.
        """
        cut = ASKED.cut_from("<p>My name is Zoë &quot;Z&quot; Quux, and my number is 555-0199 &lt;home&gt;.</p>")

        assert "<p>[…]</p>" == cut

    def test_cuts_out_a_part_of_a_text(self):
        """
        Servers shorten what they repeat: any piece of 12 characters is known again.
        """
        assert "in […]… at 7" == ASKED.cut_from('in me is Zoë "Z" Quux, and my… at 7')
        assert "in […]… at 7" == ASKED.cut_from("in ly in the hou… at 7")
        assert "in is Zoë… at 7" == ASKED.cut_from("in is Zoë… at 7")

    def test_cuts_out_pictures(self):
        """
        A picture, or the beginning of one, is cut out; so is one in another place than a message.
        """
        uri = f"data:image/png;base64,{PICTURE}"
        other = asked(images=[PICTURE])

        assert "no such image: data:image/png;base64,[…] in messages" == ASKED.cut_from(
            f"no such image: {uri[:300]} in messages"
        )
        assert "cannot decode […]" == other.cut_from(f"cannot decode {PICTURE[400:]}")

    def test_knows_short_texts_where_they_are_whole(self):
        """
        A short prompt, or a line of one, is cut out as a word is, not within another.
        """
        assert "cannot answer '[…]' of […]" == said("a cat\n\n  dogs  \nox", "cannot answer 'a CAT' of dogs")
        assert "ox, watchdogs and hotdogs" == said("a cat\n\n  dogs  \nox", "ox, watchdogs and hotdogs")

    @pytest.mark.parametrize(
        "text",
        [
            "model qwen2.5-vl-7b-instruct not found",
            "response_format json_object is not supported",
            "tool get_weather_of_a_place does not exist",
            "temperature must be at most 2",
            "x" * 100,
            "",
        ],
    )
    def test_leaves_what_nobody_asked(self, text):
        """
        Names of models and tools, and settings, stay: an error has to be able to name them.
        """
        request = asked(
            model="qwen2.5-vl-7b-instruct",
            messages=[{"role": "user", "content": "What is the weather?"}],
            response_format={"type": "json_object"},
            tools=[{"type": "function", "function": {"name": "get_weather_of_a_place"}}],
        )

        assert text == request.cut_from(text)

    def test_knows_bodies_that_are_no_json(self):
        """
        A text is one; of bytes only pictures as base64 would be known.
        """
        text = "prompt=tell me about the river Quux"

        assert "cannot read […]" == Asked(text.encode()).cut_from(f"cannot read {text}")
        assert "cannot read it" == Asked(b"\xff\xfe\x00").cut_from("cannot read it")
        assert "cannot read it" == Asked(b"[" * 100_000).cut_from("cannot read it")
        assert "cannot read it" == NOTHING.cut_from("cannot read it")

    def test_shows_nothing_itself(self):
        """
        Nor does it tell when it is looked at.
        """
        assert "Asked(…)" == repr(ASKED)


STEPS = [
    Status(status=400, message=f"cannot answer: {PROMPT}"),
    Status(status=500, message=f"echo {SYSTEM} {REQUEST.description}"),
    ErrorBody(message=f"image {REQUEST.image_data_uri}: {PROMPT}"),
]


class TestErrors:
    @pytest.mark.parametrize("step", STEPS, ids=["status", "texts", "picture"])
    @pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
    @pytest.mark.parametrize("world", ["sync", "async"])
    def test_of_the_client_do_not_repeat_it(self, world, streamed, step):
        """
        Neither their texts nor their details do, in both worlds and for streams.
        """

        async def ask_async(client):
            async with client:
                if streamed:
                    return [chunk async for chunk in client.stream_async(REQUEST)]
                return await client.chat_async(REQUEST)

        def ask(client):
            if world == "async":
                return asyncio.run(ask_async(client))
            return list(client.stream(REQUEST)) if streamed else client.chat(REQUEST)

        with (
            ScriptedLMStudio([step]) as server,
            LMStudioClient(server.base_url) as client,
            pytest.raises(pixel_llm.PixelLMError) as raised,
        ):
            ask(client)
        whole = f"{raised.value} {raised.value.details}".lower()

        assert "[…]" in whole
        assert not [word for word in ("quux", "555-0199", PICTURE[:20].lower()) if word in whole]

    @pytest.mark.parametrize("how", ["error_event", "error", "text"])
    def test_in_the_middle_of_a_stream_do_not_either(self, how):
        """
        An error's event, or a router's plain text, is quoted without it.
        """
        step = BrokenStream(how=how, message=f"stopped at {PROMPT}")
        with (
            ScriptedLMStudio([step]) as server,
            LMStudioClient(server.base_url) as client,
            pytest.raises(pixel_llm.PixelLMError) as raised,
        ):
            list(client.stream(REQUEST))

        assert "quux" not in f"{raised.value} {raised.value.details}".lower()

    def test_of_embeddings_do_not_either(self):
        """
        The texts whose vectors are wanted are as private.
        """
        step = Status(status=400, message="too long: Quux", path="/v1/embeddings")
        with (
            ScriptedLMStudio([step]) as server,
            LMStudioClient(server.base_url) as client,
            pytest.raises(pixel_llm.APIError, match=r"too long: \[…\]") as raised,
        ):
            client.embeddings(["Quux"], "nomic")

        assert "Quux" not in str(raised.value.details)

    def test_of_transports_do_not_either(self, any_clients):
        """
        Clients of other libraries that go through a policy get its error without it.
        """
        question = {"model": "m", "messages": [{"role": "user", "content": "Quux"}]}
        policies = policies_of()
        with ScriptedLMStudio([Status(status=400, message="bad: Quux")]) as server:
            response = any_clients.send(any_clients.transport(policies), server.base_url + CHAT, json=question)
        error = response.extensions["pixel_llm"]["error"]

        assert "bad: […]" in str(error)
        assert "Quux" not in str(error.details)


def test_a_log_that_redacts_has_no_prompt_in_it(tmp_path):
    """
    Log, snapshot and health of a program whose server repeats prompts are free of them.
    """
    overrides = {"logging": {"level": "DEBUG", "file": str(tmp_path / "x.log")}}
    with (
        ScriptedLMStudio(then=STEPS[0]) as server,
        LMStudioClient(server.base_url) as client,
        pixel_llm.load_policies(profile="basic", overrides=overrides) as policies,
    ):
        for _ in range(2):
            with pytest.raises(pixel_llm.APIError):
                policies.wrap("lm_studio.chat", client.chat)(REQUEST)
        seen = f"{policies.snapshot()} {policies.health()}"
    seen += (tmp_path / "x.log").read_text()

    assert 8 == seen.count("cannot answer: […]")
    assert "Quux" not in seen
