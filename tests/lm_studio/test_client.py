from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import json
import os
import threading
import time

import pytest

import pixel_llm.lm_studio
from pixel_llm.errors import APIError, ErrorCode, PixelLMError, ValidationError
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.lm_studio.exchange import LARGEST_REPLY
from pixel_llm.lm_studio.replies import TrialReply
from pixel_llm.testing import Answer, EmptyChoices, ErrorBody, Hang, ScriptedLMStudio, Status, WrongType

REQUEST = ChatRequest(model="qwen2.5-vl-7b-instruct", prompt="What is it?")


class TestChat:
    def test_text_comes_back(self, world):
        """
        A healthy server answers with a caption by the model that was asked.
        """
        with ScriptedLMStudio(script=[Answer(text="A cat.")]) as server:
            reply = world.call(LMStudioClient(server.base_url), "chat", REQUEST)

        assert ("A cat.", True, False) == (reply.text, reply.model_matches, reply.truncated)

    def test_a_description_is_understood(self, world):
        """
        The scripted server finds the description in the prompt and answers with it, as a model would.
        """
        request = ChatRequest(model="m", prompt="What is it?", description="A square picture, mostly blue.")
        with ScriptedLMStudio() as server:
            reply = world.call(LMStudioClient(server.base_url), "chat", request)

        assert "mostly blue" in reply.text

    def test_what_is_sent(self, world, serve, raw):
        """
        JSON to /chat/completions, the key as bearer token, our name and version.
        """
        requests = []

        def handler(connection):
            requests.append(raw.read_request(connection))
            connection.sendall(raw.http(raw.CHAT))

        server = serve(handler)
        world.chat(LMStudioClient(f"{server.address}/v1/", api_key=" lm-key\n"))

        head, _, body = requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        assert "POST /v1/chat/completions HTTP/1.1" == lines[0]
        assert ("Bearer lm-key", "application/json", "identity") == (
            headers["authorization"],
            headers["content-type"],
            headers["accept-encoding"],
        )
        assert headers["user-agent"].startswith("pixel-llm")
        assert {"model": "some-model", "stream": False} == {
            name: value for name, value in json.loads(body).items() if name != "messages"
        }

    @pytest.mark.parametrize(
        ("url", "options", "expected"),
        [
            ("http://{}", {}, None),
            ("http://{}", {"api_key": ""}, None),
            ("http://user:pass@{}", {}, "Basic dXNlcjpwYXNz"),
            ("http://user:pass@{}", {"api_key": "lm-key"}, "Bearer lm-key"),
        ],
    )
    def test_authorization(self, url, options, expected, world, serve, raw):
        """
        Without a key none is sent; a user in the URL is HTTP's basic one.
        """
        requests = []

        def handler(connection):
            requests.append(raw.read_request(connection))
            connection.sendall(raw.http(raw.CHAT))

        server = serve(handler)
        world.chat(LMStudioClient(url.format(f"127.0.0.1:{server.port}"), **options))

        sent = [line for line in requests[0].decode().split("\r\n") if line.lower().startswith("authorization:")]
        assert ([] if expected is None else [f"Authorization: {expected}"]) == sent

    @pytest.mark.parametrize(
        ("step", "code", "retry_after"),
        [
            (Status(status=429, retry_after=2), ErrorCode.ERR_API_RATE_LIMIT, 2.0),
            (Status(status=500), ErrorCode.ERR_API_SERVER_ERROR, None),
            (ErrorBody(message="Model is unloaded.", envelope="nested+message"), ErrorCode.ERR_API_SERVER_ERROR, None),
            (WrongType(), ErrorCode.ERR_API_INVALID_RESPONSE, None),
        ],
        ids=str,
    )
    def test_errors_arrive_once(self, step, code, retry_after, world):
        """
        The client reports and never asks again: repeating is the policy's business.
        """
        with ScriptedLMStudio(script=[step]) as server:
            with pytest.raises(APIError) as caught:
                world.call(LMStudioClient(server.base_url), "chat", REQUEST)
            requests = len(server.requests)

        assert (code, retry_after, 1) == (caught.value.error_code, caught.value.retry_after, requests)

    def test_no_redirect_is_followed(self, world, serve, raw):
        """
        A picture and a key go where the policy says, nowhere else.
        """
        other = serve(raw.reply_with(raw.http(raw.CHAT)))
        server = serve(raw.reply_with(raw.http(b"", "307 Temporary Redirect", f"Location: {other.address}/")))

        with pytest.raises(APIError) as caught:
            world.chat(LMStudioClient(server.address, api_key="lm-key"))

        assert (ErrorCode.ERR_API_INVALID_RESPONSE, 0) == (caught.value.error_code, other.accepted)
        assert str(caught.value).endswith("; base_url must be the address that the server redirects to")

    @pytest.mark.parametrize("compressed", [False, True])
    def test_an_endless_answer_is_cut(self, compressed, world, serve, raw):
        """
        No server fills the memory, compression included.
        """
        body = b" " * (LARGEST_REPLY + 1)
        headers = ["Content-Encoding: gzip"] if compressed else []
        server = serve(raw.reply_with(raw.http(gzip.compress(body, 1) if compressed else body, "200 OK", *headers)))

        with pytest.raises(APIError) as caught:
            world.chat(LMStudioClient(server.address))

        assert ErrorCode.ERR_API_INVALID_RESPONSE == caught.value.error_code
        assert f"the answer of {server.address} is longer than {LARGEST_REPLY} bytes" == str(caught.value)

    @pytest.mark.parametrize("file", ["/nowhere/at/all.pem", __file__])
    def test_certificates_that_can_not_be_read(self, file, monkeypatch):
        """
        The file is named, and who names it.
        """
        monkeypatch.setenv("SSL_CERT_FILE", file)
        with pytest.raises(ValidationError) as caught:
            LMStudioClient("https://127.0.0.1:1234/v1")

        assert f"the certificates in {file}, which $SSL_CERT_FILE names, can't be read: " in str(caught.value)

    def test_a_password_that_comes_back_is_masked(self, world, serve, raw):
        """
        So is what HTTP's basic authorization makes of it.
        """
        basic = base64.b64encode(b"user:hunter2222").decode()
        body = json.dumps({"error": f"Authorization: Basic {basic} for hunter2222"}).encode()
        server = serve(raw.reply_with(raw.http(body, "401 Unauthorized", "Content-Type: application/json")))
        with pytest.raises(APIError) as caught:
            world.chat(LMStudioClient(server.address.replace("://", "://user:hunter2222@")))

        assert "Authorization: Basic *** for ***" in str(caught.value)
        assert "hunter2222" not in repr(caught.value.details)

    @pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate,gzip", "br", "zstd", "gzip, identity, x\x7f"])
    def test_what_would_be_undone_whole_is_refused(self, encoding, world, serve, raw):
        """
        A compression inside of another, or a stronger one, could fill the memory in one step.
        """
        body = gzip.compress(gzip.compress(b'{"choices": []}'))
        server = serve(raw.reply_with(raw.http(body, "200 OK", f"Content-Encoding: {encoding}")))

        with pytest.raises(APIError, match="only gzip or deflate, once, is undone") as caught:
            world.chat(LMStudioClient(server.address))

        assert ErrorCode.ERR_API_INVALID_RESPONSE is caught.value.error_code
        assert str(caught.value).isprintable()

    def test_try_chat(self, world):
        """An answer without a word is an answer to `try_chat`, which says who gave it; an error is none."""
        request = ChatRequest(model="some-model", prompt="Say yes.", max_tokens=1)
        silent = Answer(text="", finish_reason="length", model="other")
        with ScriptedLMStudio([silent, EmptyChoices()]) as server:
            client = LMStudioClient(server.base_url)

            assert TrialReply("other", has_text=False, has_reasoning=False) == world.call(client, "try_chat", request)
            with pytest.raises(APIError, match="holds no choices"):
                world.call(client, "try_chat", request)

    def test_models(self, world):
        """
        The names that the server lists.
        """
        with ScriptedLMStudio(models=["a", "b"]) as server:
            assert ("a", "b") == world.call(LMStudioClient(server.base_url), "models").ids

    def test_a_wrong_key(self, world):
        """
        Neither the error nor what can be reached from its text and details shows the key.
        """
        with ScriptedLMStudio(api_key="right-key") as server, pytest.raises(APIError) as caught:
            world.call(LMStudioClient(server.base_url, api_key="wrong-key"), "chat", REQUEST)

        assert ErrorCode.ERR_API_UNAUTHORIZED == caught.value.error_code
        assert "wrong-key" not in f"{caught.value} {caught.value.details}"


class TestConnections:
    def test_a_connection_is_used_again(self, serve, raw):
        """
        Connecting is paid once while calls follow each other closely, and gone connections are noticed.
        """
        answer = raw.http(raw.CHAT)
        server = serve(raw.reply_with(answer, answer, answer))
        request = ChatRequest(model="m", prompt="p")

        with LMStudioClient(server.address) as client:
            for _ in range(3):
                client.chat(request)
            together = server.accepted
            time.sleep(0.05)  # the server hangs up
            client.chat(request)

        assert (1, 2) == (together, server.accepted)

    def test_one_client_serves_many_event_loops(self):
        """
        Connections end with their loop, without warnings, whether or not anybody closes the client.
        """
        with ScriptedLMStudio() as server:
            client = LMStudioClient(server.base_url)
            texts = {asyncio.run(client.chat_async(REQUEST)).text for _ in range(3)}
            open_loops = len(client._connections.of_this_process._loop_transports)
            gc.collect()

        assert (1, 0) == (len(texts), open_loops)

    def test_loops_in_several_threads_at_once(self):
        """
        Each has its own connections.
        """
        texts = []
        with ScriptedLMStudio() as server:
            client = LMStudioClient(server.base_url)

            async def ask():
                replies = await asyncio.gather(*(client.chat_async(REQUEST) for _ in range(4)))
                texts.extend(reply.text for reply in replies)

            threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert 16 == len(texts)

    def test_a_forgotten_client_leaves_no_socket(self):
        """
        Who drops the client without closing it gets no warning about sockets, in either world.
        """
        with ScriptedLMStudio() as server:
            LMStudioClient(server.base_url).chat(REQUEST)

            async def forget():
                await LMStudioClient(server.base_url).chat_async(REQUEST)
                gc.collect()
                await asyncio.sleep(0.01)

            asyncio.run(forget())
            gc.collect()

    def test_a_closed_client_opens_again(self, world):
        """
        Closing gives connections back; it is no end, so nobody's call runs into a closed client.
        """
        with ScriptedLMStudio() as server:
            client = LMStudioClient(server.base_url)
            first = world.call(client, "chat", REQUEST)

            assert first == world.call(client, "chat", REQUEST)

    def test_in_one_loop_too(self):
        """
        aclose() closes the running loop's connections, and the next call opens new ones.
        """

        async def twice():
            async with client:
                first = await client.chat_async(REQUEST)
            async with client:
                return first == await client.chat_async(REQUEST)

        with ScriptedLMStudio() as server:
            client = LMStudioClient(server.base_url)

            assert asyncio.run(twice())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from 3.12 on, as threads are running
    def test_a_forked_child_opens_its_own_connection(self, serve, raw):
        """
        Parent and child do not read each other's answers, though the client was in use before the fork.
        """

        def handler(connection):
            while True:
                raw.read_request(connection)
                connection.sendall(raw.http(raw.CHAT))

        server = serve(handler)
        request = ChatRequest(model="m", prompt="p")
        with LMStudioClient(server.address) as client:
            client.chat(request)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    status = 0 if client.chat(request).text == "A cat." else 1
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            client.chat(request)

        assert (0, 2) == (status, server.accepted)

    def test_many_threads_share_a_client(self):
        """
        No queue in the pool: concurrency is the bulkhead's business.
        """
        with ScriptedLMStudio() as server, LMStudioClient(server.base_url) as client:
            replies = []
            threads = [threading.Thread(target=lambda: replies.append(client.chat(REQUEST))) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert 16 == len(replies)


class TestInterruption:
    def test_cancellation_passes_untouched(self):
        """
        A cancelled call is not an error of the server's.
        """

        async def cancel():
            async with client:
                task = asyncio.create_task(client.chat_async(REQUEST))
                await asyncio.to_thread(server.wait_for_requests, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        with ScriptedLMStudio(script=[Hang()]) as server:
            client = LMStudioClient(server.base_url)
            asyncio.run(cancel())

    def test_keyboard_interrupt_passes_untouched(self, monkeypatch):
        """
        Ctrl-C stays Ctrl-C, and the connection is given up.
        """
        with ScriptedLMStudio() as server, LMStudioClient(server.base_url) as client:
            client.chat(REQUEST)
            monkeypatch.setattr(client._exchange, "_head", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))

            with pytest.raises(KeyboardInterrupt):
                client.chat(REQUEST)


class TestConstruction:
    @pytest.mark.parametrize(
        "base_url",
        [
            "",
            "127.0.0.1:1234",
            "localhost:1234/v1",
            "ftp://127.0.0.1/v1",
            "http://",
            "http:///v1",
            "http://[::1/v1",
            "http://h:99999/v1",
            "http://h:port/v1",
            "http://h/v1?key=hunter2",
            "http://h/v1#top",
            "http://user:hunter2@/v1",
            "ws://user:hunter2@h/v1",
        ],
    )
    def test_a_base_url_that_cannot_be_is_refused(self, base_url):
        """
        At construction, naming the field and showing no password.
        """
        with pytest.raises(ValidationError, match=r"^base_url must ") as caught:
            LMStudioClient(base_url)

        assert ErrorCode.ERR_VAL_INVALID_RANGE == caught.value.error_code
        assert "hunter2" not in f"{caught.value} {caught.value.details} {caught.value.__cause__}"

    @pytest.mark.parametrize(
        ("base_url", "kept"),
        [
            ("http://127.0.0.1:1234/v1/", "http://127.0.0.1:1234/v1"),
            (" http://127.0.0.1:1234 ", "http://127.0.0.1:1234"),
            ("https://user:hunter2@example.test/lm/v1", "https://example.test/lm/v1"),
            ("http://[::1]:1234/v1", "http://[::1]:1234/v1"),
        ],
    )
    def test_the_base_url_is_kept_without_credentials(self, base_url, kept):
        """
        So that it can be shown, logged and hashed.
        """
        assert kept == LMStudioClient(base_url).base_url

    @pytest.mark.parametrize("api_key", ["two\nlines", "schlüssel", "nul\x00"])
    def test_a_key_that_fits_into_no_header_is_refused(self, api_key):
        """
        At construction, and without showing it.
        """
        with pytest.raises(ValidationError) as caught:
            LMStudioClient("http://h", api_key=api_key)

        assert "api_key must be printable ASCII characters" == str(caught.value)

    @pytest.mark.parametrize(("base_url", "api_key", "field"), [(None, None, "base_url"), ("http://h", 3, "api_key")])
    def test_what_is_no_text_is_refused(self, base_url, api_key, field):
        """
        Before anything is made of it.
        """
        with pytest.raises(ValidationError, match=f"{field} must be a text") as caught:
            LMStudioClient(base_url, api_key=api_key)

        assert field == caught.value.details["field"]

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), None, "5"])
    def test_a_timeout_that_is_none_is_refused(self, timeout):
        """
        Every call must end.
        """
        with pytest.raises(ValidationError, match="timeout must be more than 0 seconds"):
            LMStudioClient("http://h", timeout=timeout)

    def test_its_repr_shows_no_secret(self):
        """
        Neither key nor password.
        """
        client = LMStudioClient("http://user:hunter2@h/v1", api_key="lm-secret")

        assert "LMStudioClient('http://h/v1')" == repr(client)
        assert "hunter2" not in repr(vars(client))
        assert "lm-secret" not in repr(vars(client)["_endpoint"])

    def test_keys_have_fingerprints(self):
        """
        They tell keys apart without being them; no key has none.
        """
        prints = [LMStudioClient("http://h", api_key=key).key_fingerprint for key in ("one", "two", None)]

        assert 3 == len(set(prints))
        assert "" == prints[2]


class TestExports:
    def test_all_is_what_there_is(self):
        """
        The room's public names, sorted, each with a docstring.
        """
        names = pixel_llm.lm_studio.__all__

        assert sorted(names) == names
        assert all(getattr(pixel_llm.lm_studio, name).__doc__ for name in names)


def test_nothing_else_is_raised(world, limited):
    """
    What comes out of the client is one of ours, so that the policy can judge it.
    """
    with limited(within=0.2), ScriptedLMStudio(script=[Hang()]) as server, pytest.raises(PixelLMError):
        world.call(LMStudioClient(server.base_url), "chat", REQUEST)
