"""Many pictures at once, through the production policy and a scripted LM Studio."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from staging import blue, red

from pixel_llm import ErrorCode, HealthStatus, HybridPixelLLM, ValidationError, encoder
from pixel_llm.encoder import Picture
from pixel_llm.hybrid import BatchProgress, batching
from pixel_llm.hybrid.describing import read_picture
from pixel_llm.hybrid.handover import Handover
from pixel_llm.resilience import SYSTEM_CLOCK
from pixel_llm.resilience.limits import Limits, publish, reset_published
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

    @pytest.mark.parametrize("form", ["list", "generator", "async generator"])
    def test_large_pictures_are_few_at_a_time(self, stage, monkeypatch, form):
        """
        However many the encoder takes together, memory holds no more of them than it is meant for.
        """
        read, most, pictures = [], [], shades(20)

        def counting(image):
            picture = read_picture(image)
            read.append(weakref.ref(picture.pixels))
            most.append(sum(pixels() is not None for pixels in read))
            return picture

        async def one_by_one():
            for picture in pictures:
                yield picture

        monkeypatch.setattr(batching, "read_picture", counting)
        monkeypatch.setattr(batching, "MOST_BYTES", 1500)  # two of them
        made = stage()
        monkeypatch.setattr(batching, "Handover", lambda size: Handover(size, 1500))
        if form == "async generator":
            items = asyncio.run(made.model.generate_batch_async(one_by_one(), jobs=1))
        else:
            items = made.model.generate_batch(pictures if form == "list" else iter(pictures), jobs=1)

        assert list(range(20)) == [item.index for item in items]
        assert all(item.unwrap().text for item in items)
        assert max(most) <= 7

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

    @pytest.mark.parametrize(
        ("single", "got"),
        [
            (red(), r"one ndarray of shape \(48, 64, 3\)"),
            (np.zeros((8, 8), np.uint8), r"one ndarray of shape \(8, 8\)"),
            (torch.zeros(3, 8, 8), r"one Tensor of shape \(3, 8, 8\)"),
            ("photo.jpg", "one str"),
            (Path("photo.jpg"), "one PosixPath"),
            (b"\x89PNG", "one bytes"),
            (io.BytesIO(b"\x89PNG"), "one BytesIO"),
            (Image.new("RGB", (3, 3)), "one Image"),
            (None, "None"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_one_picture_is_no_batch(self, stage, single, got):
        """
        A single picture, whose rows or letters would be asked about one by one, is refused before anybody is asked.
        """
        made = stage()

        with pytest.raises(ValidationError, match=rf"a single picture goes in as \[image\] \(got {got}\)"):
            made.batch(single)

        assert 0 == made.times_asked()

    def test_array_of_pictures(self, stage):
        """
        An array with a picture axis is a batch; so is one of paths.
        """
        made = stage()

        assert 3 == len(made.batch(np.stack(shades(3))))
        assert ["a.png", "b.png"] == [item.image for item in made.batch(np.array(["a.png", "b.png"]))]

    @pytest.mark.parametrize("callback", [3, "print"])
    def test_progress_that_cannot_be_told(self, stage, callback):
        """
        What can't be called is refused before anything is read …
        """
        with pytest.raises(ValidationError, match="on_progress must be a plain function"):
            stage().batch(shades(1), on_progress=callback)

    def test_async_progress(self, stage):
        """
        … and so is an async function, which nobody would await.
        """

        async def tell(progress: BatchProgress) -> None:
            """Never runs."""

        class Telling:
            async def __call__(self, progress: BatchProgress) -> None:
                """Never runs either."""

        for callback in (tell, Telling()):
            with pytest.raises(ValidationError, match="on_progress must be a plain function"):
                stage().batch(shades(1), on_progress=callback)

    def test_fallbacks_serve_in_a_batch(self, stage):
        """
        What the policy serves in place of a caption is marked in the item's result.
        """
        made = stage(then=Status(status=500))

        items = made.batch(shades(3), jobs=1)

        assert ["default_value"] * 3 == [item.unwrap().served_by for item in items]


class TestInterrupt:
    @pytest.mark.parametrize("wakes", [True, False], ids=["waking the reader", "not waking it"])
    def test_ctrl_c_ends_what_is_under_way(self, tmp_path, monkeypatch, wakes):
        """
        KeyboardInterrupt comes at once, though every call waits for a server that never answers.

        Also if the system gives the signal to another thread, or just before the thread that reads begins to wait:
        then nothing wakes it.
        """
        monkeypatch.chdir(tmp_path)
        with ScriptedLMStudio(then=Hang()) as server:
            config = {"lm_studio": {"base_url": server.base_url}}
            with HybridPixelLLM("production", error_config=config) as model:
                model.load()

                def interrupt() -> None:
                    while not server.requests:
                        time.sleep(0.01)
                    to = threading.main_thread().ident if wakes else threading.get_ident()
                    signal.pthread_kill(to, signal.SIGINT)

                threading.Thread(target=interrupt).start()
                with pytest.raises(KeyboardInterrupt):
                    model.generate_batch(shades(8), jobs=4)
                under_way = len(server.requests)
                # One that was about to be sent may end as well: at once, too.
                ended = any(
                    model.policies.stats("lm_studio.chat").failed >= under_way or time.sleep(0.02) for _ in range(200)
                )
                assert ended
                assert 0 == model.policies.breaker("lm_studio.chat").failures
                assert 0 == model.get_error_metrics()["total_requests"]

    def test_nothing_is_told_of_what_was_under_way(self, stage, tmp_path):
        """
        No deadline has passed of calls that nobody wants any more, and no fallback serves: nobody is told so.
        """
        made = stage(
            then=Hang(),
            clock=SYSTEM_CLOCK,
            overrides={
                "logging": {"level": "DEBUG", "file": str(tmp_path / "log.jsonl")},
                "targets": {"pixel_llm.generate": {"fallback": [{"default_value": "none"}]}},
            },
        )
        policies = made.model.policies

        def images() -> Any:
            yield from shades(policies.config.encoder.batch.max_size)  # which are handed over together
            made.server.wait_for_requests(2)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            made.model.generate_batch(images(), jobs=2)
        # They have come to their ends, as the stacks count.
        assert any(policies.stats("pixel_llm.generate").failed == 2 or time.sleep(0.02) for _ in range(200))

        assert policies.log.flush(20)
        assert [] == made.events
        assert not (tmp_path / "log.jsonl").exists() or "" == (tmp_path / "log.jsonl").read_text()
        snapshot = policies.snapshot()
        assert ({}, {}, ()) == (
            snapshot.targets["pixel_llm.generate"].errors,
            snapshot.targets["lm_studio.chat"].errors,
            snapshot.recent_errors,
        )
        assert HealthStatus.OK is policies.health().status

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
    def test_exit_of_the_callback(self, stage, kind):
        """
        What is no mere error, raised where a picture ends, ends the batch, and comes out of the call.
        """
        made = stage()

        def leave(progress: BatchProgress) -> None:
            raise kind("enough")

        caught: list[BaseException] = []

        def batch() -> None:
            try:
                made.batch(shades(12), jobs=2, on_progress=leave)
            except BaseException as error:  # noqa: BLE001 - it is looked at below
                caught.append(error)

        # In a thread, since a batch that never ends must not take the other tests with it.
        thread = threading.Thread(target=batch, daemon=True)
        thread.start()
        thread.join(30)

        assert [kind] == [type(error) for error in caught]
        assert made.times_asked() < 12
        assert 3 == len(made.batch(shades(3)))

    def test_exit_of_a_listener(self, stage):
        """
        So does an exit that comes from inside the call.
        """
        made = stage(then=Status(status=500))
        made.model.policies.add_listener(lambda event: sys.exit(7))

        with pytest.raises(SystemExit):
            made.batch(shades(4), jobs=2)

    def test_exit_of_the_images(self, stage):
        """
        An iterator of images that fails ends the batch, and what it failed of comes out of the call.
        """
        made = stage()

        def images() -> Any:
            yield red()
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            made.batch(images(), jobs=2)

    def test_caller_s_deadline_holds(self, stage):
        """
        A batch inside a guarded call has no more time than that call.
        """
        made = stage(then=Hang(), clock=SYSTEM_CLOCK, profile="development")
        token = publish(Limits(deadline=SYSTEM_CLOCK.monotonic() + 0.2))
        try:
            (item,) = made.batch([red()], jobs=1)
        finally:
            reset_published(token)

        assert ErrorCode.ERR_TIMEOUT_DEADLINE == item.error.error_code

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

    def test_images_are_drawn_in_a_thread(self, tmp_path, monkeypatch):
        """
        A generator that takes its time does not hold up the loop.
        """
        monkeypatch.chdir(tmp_path)
        drawn_in = set()

        def slow() -> Any:
            for shade in shades(3):
                drawn_in.add(threading.current_thread())
                yield shade

        async def main(server: ScriptedLMStudio) -> int:
            config = {"lm_studio": {"base_url": server.base_url}}
            async with HybridPixelLLM("production", error_config=config) as model:
                return len(await model.generate_batch_async(slow()))

        with ScriptedLMStudio(then=Answer(text="Nothing.")) as server:
            assert 3 == asyncio.run(main(server))

        assert threading.main_thread() not in drawn_in

    def test_images_of_an_async_iterator(self, tmp_path, monkeypatch):
        """
        Images that an event loop waits for, such as uploads, come as they are; threads have no use for them.
        """
        monkeypatch.chdir(tmp_path)

        async def uploads() -> Any:
            for shade in shades(9):
                await asyncio.sleep(0)
                yield shade

        async def main(server: ScriptedLMStudio) -> None:
            config = {"lm_studio": {"base_url": server.base_url}, "encoder": {"batch": {"max_size": 4}}}
            async with HybridPixelLLM("production", error_config=config) as model:
                items = await model.generate_batch_async(uploads(), jobs=2)
                assert list(range(9)) == [item.index for item in items]
                assert {"Nothing."} == {item.unwrap().text for item in items}
                with pytest.raises(ValidationError, match="async_generator, which is for generate_batch_async"):
                    model.generate_batch(uploads())

        with ScriptedLMStudio(then=Answer(text="Nothing.")) as server:
            asyncio.run(main(server))
