"""Many pictures at once, through the production policy and a scripted LM Studio."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from conftest import blue, red

from pixel_llm import ErrorCode, HybridPixelLLM, ValidationError, encoder
from pixel_llm.encoder import Picture
from pixel_llm.hybrid import BatchProgress
from pixel_llm.resilience import SYSTEM_CLOCK
from pixel_llm.testing import Answer, Hang, ScriptedLMStudio, Status


def shades(count: int) -> list[Any]:
    return [np.full((16, 16, 3), shade, np.uint8) for shade in range(count)]


class TestBatch:
    def test_order_of_the_images(self, stage):
        """
        Items come in the order of the images, whoever ended first.
        """
        made = stage()

        items = made.batch(shades(9), jobs=3)

        assert list(range(9)) == [item.index for item in items]
        assert 9 == made.times_asked()
        assert ["lm_studio"] * 9 == [item.unwrap().served_by for item in items]
        assert [item.result.text for item in items] == [made.ask(image).text for image in shades(9)]

    def test_one_failure_loses_no_other(self, stage):
        """
        A picture that can't be read, and one that the server refuses for good, end alone.
        """
        made = stage(Status(status=400, message="'url' field must be a base64 encoded image.", envelope="string"))

        items = made.batch(["no-such-file.png", red(), blue(), b"no image"], jobs=1)

        codes = [item.error and item.error.error_code for item in items]
        assert [
            ErrorCode.ERR_VAL_MISSING_FIELD,
            ErrorCode.ERR_API_BAD_REQUEST,
            None,
            ErrorCode.ERR_ENC_INVALID_INPUT,
        ] == codes
        assert "no-such-file.png" == items[0].image
        with pytest.raises(ValidationError, match="no such file"):
            items[0].unwrap()
        metrics = made.model.get_error_metrics()
        assert (4, 3, 1) == tuple(
            metrics[name] for name in ("total_requests", "failed_requests", "successful_requests")
        )

    def test_the_encoder_takes_them_together(self, stage):
        """
        One pass through `encoder.forward` serves a whole portion.
        """
        made = stage()

        made.batch(shades(8), jobs=2)

        stats = made.model.policies.stats("encoder.forward")
        assert 1 == stats.succeeded

    def test_an_encoder_that_fails_on_many_takes_each(self, stage, monkeypatch):
        """
        If the portion fails, each picture is encoded by itself, and only the one that is at fault has no caption.
        """
        made = stage()
        made.model.load()
        encoder = made.model._describer._encoder
        whole = encoder.encode_batch

        def picky(pictures: Any) -> Any:
            if any(int(picture.pixels[0, 0, 0]) == 3 for picture in pictures):
                raise RuntimeError("the third is cursed")
            return whole(pictures)

        monkeypatch.setattr(encoder, "encode_batch", picky)

        items = made.batch(shades(5), jobs=2)

        assert [3] == [item.index for item in items if item.result is None or item.result.degraded]

    def test_no_more_at_once_than_the_bulkhead_lets_in(self, stage):
        """
        Without `jobs`, as many pictures are asked about at once as the bulkhead lets in, and none is refused.
        """
        tight = {"targets": {"lm_studio.chat": {"bulkhead": {"max_concurrent": 2, "max_waiting": 0}}}}
        made = stage(overrides=tight, clock=SYSTEM_CLOCK)

        items = made.batch(shades(10))

        assert not [item for item in items if item.error or item.result.degraded]

    def test_progress(self, stage):
        """
        Each picture that has ended is told of once, with how many have; a callback that raises is put aside.
        """
        made, told = stage(), []

        def tell(progress: BatchProgress) -> None:
            told.append(progress)
            raise RuntimeError("no screen")

        items = made.batch(shades(6), jobs=3, on_progress=tell)

        assert [1, 2, 3, 4, 5, 6] == [progress.done for progress in told]
        assert {6} == {progress.total for progress in told}
        assert {item.index for item in items} == {progress.item.index for progress in told}

    def test_images_of_an_iterator_are_taken_as_they_are_needed(self, stage):
        """
        A generator is not read to its end before the first is asked about, and its length need not be known.
        """
        made, taken, at_first = stage(), [], []

        def images() -> Any:
            for shade in shades(100):
                taken.append(shade)
                yield shade

        def tell(progress: BatchProgress) -> None:
            at_first.append(len(taken))
            assert progress.total is None

        items = made.batch(images(), jobs=1, on_progress=tell)

        assert 100 == len(items)
        assert at_first[0] < 100

    def test_none(self, stage):
        """
        No images, no items.
        """
        assert [] == stage().batch([])

    @pytest.mark.parametrize("jobs", [0, -1, True, 1.5, 1000])
    def test_jobs_must_make_sense(self, stage, jobs):
        """
        The number of jobs is checked before anything is read.
        """
        with pytest.raises(ValidationError, match="jobs must be a whole number from 1 to 256"):
            stage().batch(shades(1), jobs=jobs)

    def test_fallbacks_serve_in_a_batch(self, stage):
        """
        What the policy serves in place of a caption is marked in the item's result.
        """
        made = stage(then=Status(status=500))

        items = made.batch(shades(3), jobs=1)

        assert ["default_value"] * 3 == [item.unwrap().served_by for item in items]


class TestInterrupt:
    def test_ctrl_c_ends_what_is_under_way(self, tmp_path, monkeypatch):
        """
        KeyboardInterrupt comes at once, though every call waits for a server that never answers.
        """
        monkeypatch.chdir(tmp_path)
        with ScriptedLMStudio(then=Hang()) as server:
            config = {"lm_studio": {"base_url": server.base_url}}
            with HybridPixelLLM("production", error_config=config) as model:
                model.load()

                def interrupt() -> None:
                    while not server.requests:
                        time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGINT)

                threading.Thread(target=interrupt).start()
                with pytest.raises(KeyboardInterrupt):
                    model.generate_batch(shades(8), jobs=4)
                under_way = len(server.requests)
                # One that was about to be sent may be counted as well: it ends at once, too.
                ended = any(
                    model.get_error_metrics()["total_requests"] >= under_way or time.sleep(0.02) for _ in range(200)
                )
                assert ended

    def test_cancellation_ends_what_is_under_way(self, tmp_path, monkeypatch):
        """
        A cancelled batch leaves no task behind.
        """
        monkeypatch.chdir(tmp_path)

        async def main(server: ScriptedLMStudio) -> int:
            config = {"lm_studio": {"base_url": server.base_url}}
            async with HybridPixelLLM("production", error_config=config) as model:
                task = asyncio.create_task(model.generate_batch_async(shades(8), jobs=4))
                while not server.requests:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return len(asyncio.all_tasks())

        with ScriptedLMStudio(then=Hang()) as server:
            assert 1 == asyncio.run(main(server))


class TestEventLoop:
    def test_is_never_blocked(self, tmp_path, monkeypatch):
        """
        What takes long with a large picture runs in other threads: reading, hashing, encoding, writing it for the wire.
        """
        monkeypatch.chdir(tmp_path)
        threads = {}

        def noted(name: str, function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                threads.setdefault(name, set()).add(threading.current_thread())
                return function(*args, **kwargs)

            return call

        for name in ("load_image", "to_data_uri"):
            monkeypatch.setattr(encoder, name, noted(name, getattr(encoder, name)))
        hashed = Picture.digest.fget
        seen = set()

        def digest(picture: Picture) -> str:
            """Only the first look at a picture's digest takes long."""
            if id(picture) not in seen:
                seen.add(id(picture))
                threads.setdefault("digest", set()).add(threading.current_thread())
            return hashed(picture)

        monkeypatch.setattr(Picture, "digest", property(digest))

        async def main(server: ScriptedLMStudio) -> None:
            config = {"lm_studio": {"base_url": server.base_url}}
            async with HybridPixelLLM("production", error_config=config) as model:
                model.load()
                passes = model._describer._encoder
                monkeypatch.setattr(passes, "encode_batch", noted("encode_batch", passes.encode_batch))
                threads.clear()
                image = Picture(np.zeros((64, 64, 3), np.uint8))
                await model.generate_async(image)
                [piece async for piece in model.stream_async(np.ones((64, 64, 3), np.uint8))]
                await model.generate_batch_async(shades(3))

        with ScriptedLMStudio(then=Answer(text="Nothing.")) as server:
            asyncio.run(main(server))

        assert {"load_image", "to_data_uri", "encode_batch"} <= set(threads)
        assert not [name for name, found in threads.items() if threading.main_thread() in found]
