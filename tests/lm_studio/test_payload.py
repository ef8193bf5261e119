from __future__ import annotations

from dataclasses import fields, replace

import pytest

from pixel_llm.errors import ValidationError
from pixel_llm.lm_studio import ChatRequest, chat_payload, request_key
from pixel_llm.lm_studio.payload import DESCRIPTION_INTRODUCTION

REQUEST = ChatRequest(model="m", prompt="What is it?")
PICTURE = "data:image/png;base64,AAAA"


class TestChatRequest:
    @pytest.mark.parametrize(
        ("wrong", "complaint"),
        [
            ({"prompt": b"x"}, "model and prompt must be texts"),
            ({"model": 3}, "model and prompt must be texts"),
            ({"system_prompt": 4}, "system_prompt must be a text or None (got 4)"),
            ({"temperature": float("nan")}, "temperature must be a finite number or None (got nan)"),
            ({"max_tokens": "5"}, "max_tokens must be a finite number or None (got '5')"),
        ],
    )
    def test_what_could_not_be_sent_is_refused(self, wrong, complaint):
        """
        When it is made, where whoever made it still sees it.
        """
        with pytest.raises(ValidationError) as caught:
            replace(REQUEST, **wrong)

        assert complaint in str(caught.value)


class TestChatPayload:
    def test_the_least(self):
        """
        What is None is not sent: the server's defaults count.
        """
        assert {
            "model": "m",
            "messages": [{"role": "user", "content": "What is it?"}],
            "stream": False,
        } == chat_payload(REQUEST)

    def test_the_most(self):
        """
        System prompt first, then text and picture in one message; zero is a value.
        """
        request = replace(
            REQUEST,
            description="mostly blue",
            image_data_uri=PICTURE,
            system_prompt="Be brief.",
            max_tokens=64,
            temperature=0.0,
            top_p=0.9,
            seed=0,
        )

        assert {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": f"{DESCRIPTION_INTRODUCTION}\nmostly blue\n\nWhat is it?"},
                        {"type": "image_url", "image_url": {"url": PICTURE}},
                    ],
                },
            ],
            "stream": False,
            "max_tokens": 64,
            "temperature": 0.0,
            "top_p": 0.9,
            "seed": 0,
        } == chat_payload(request)

    def test_a_description_alone_stays_plain_text(self):
        """
        Text-only models get a string, which all of them take.
        """
        (message,) = chat_payload(replace(REQUEST, description="mostly blue"))["messages"]

        assert f"{DESCRIPTION_INTRODUCTION}\nmostly blue\n\nWhat is it?" == message["content"]


class TestRequestKey:
    def test_is_the_same_for_the_same_request(self):
        """
        Equal requests share a key; a slash at the end of the URL does not count.
        """
        assert request_key(REQUEST, "http://h/v1") == request_key(replace(REQUEST), "http://h/v1/")

    @pytest.mark.parametrize("name", [field.name for field in fields(ChatRequest)])
    def test_every_field_counts(self, name):
        """
        Two requests that differ anywhere have different keys.
        """
        value = 3 if name in ("max_tokens", "temperature", "top_p", "seed") else "other"

        assert request_key(REQUEST, "http://h/v1") != request_key(replace(REQUEST, **{name: value}), "http://h/v1")

    def test_endpoint_and_credential_count(self):
        """
        Another server, or another user of it, has other answers.
        """
        keys = {
            request_key(REQUEST, "http://h/v1"),
            request_key(REQUEST, "http://other/v1"),
            request_key(REQUEST, "http://h/v1", "fingerprint"),
        }

        assert 3 == len(keys)

    def test_text_that_is_no_unicode_has_a_key(self):
        """
        Half a surrogate pair in a prompt is the server's to refuse.
        """
        assert 64 == len(request_key(replace(REQUEST, prompt="\ud800"), "http://h/v1"))
