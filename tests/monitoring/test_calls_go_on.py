"""Whatever is wrong with log, listeners or endpoint: calls go on, and it is reported once, plainly."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from logs_reading import read
from shop import gone

from pixel_llm import ErrorMetrics, serve_metrics
from pixel_llm.errors import CircuitBreakerOpen, ConnectionError
from pixel_llm.events.trouble import report_trouble
from pixel_llm.runtime import load_policies
from pixel_llm.runtime.active import activate

SHOP = """
version: 1
targets:
  shop.pay: {idempotent: true, retry: {strategy: immediate, max_attempts: 2}, fallback: [{default_value: sorry}]}
  shop.ship: {circuit_breaker: {failure_threshold: 1, cooldown: 1h}}
"""

#: Records of a call of shop.pay: two attempts, a retry, a failure, a fallback.
RECORDS = 5


async def gone_async():
    raise ConnectionError("gone")


class Shop:
    """A shop whose calls all fail, in one world."""

    def __init__(self, world, folder):
        self.is_async = world == "async"
        self._folder = folder
        (folder / "shop.yaml").write_text(SHOP)

    def open(self, file=None, listeners=()):
        logging = {"level": "DEBUG"} if file is None else {"level": "DEBUG", "file": str(file)}
        self.policies = load_policies(
            self._folder, "shop", overrides={"logging": logging}, variables={}, listeners=listeners
        )
        return self.policies

    def call(self, target):
        guarded = self.policies.wrap(target, gone_async if self.is_async else gone)
        return asyncio.run(guarded()) if self.is_async else guarded()

    def pay(self, times):
        """So many calls, each of which a fallback serves; then all is written that can be."""
        assert ["sorry"] * times == [self.call("shop.pay") for _ in range(times)]
        self.policies.log.flush(30)


@pytest.fixture(params=["sync", "async"])
def shop(request, tmp_path):
    shop = Shop(request.param, tmp_path)
    yield shop
    shop.policies.close()


@pytest.fixture
def reports(caplog):
    """What the logger ``pixel_llm`` itself was told, records of events left out."""
    caplog.set_level(logging.DEBUG, "pixel_llm")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "pixel_llm"]


def trouble(file, reason):
    return [f"the log file {file} cannot be written: {reason}; calls go on without it"]


class TestLogFile:
    def test_that_cannot_be_opened(self, shop, tmp_path, reports):
        """
        Its folder is a file.
        """
        (tmp_path / "logs").write_text("a file")
        file = tmp_path / "logs" / "shop.log"
        shop.open(file)
        shop.pay(3)

        assert trouble(file, f"{file.parent} is no folder") == reports()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_on_a_full_disk(self, shop, reports):
        """
        The system takes not a byte.
        """
        shop.open("/dev/full")
        shop.pay(3)

        assert trouble("/dev/full", "No space left on device") == reports()

    def test_that_can_no_longer_be_written(self, shop, tmp_path, reports):
        """
        What is lost meanwhile is counted, and stands in the file as soon as there is one again.
        """
        file = tmp_path / "shop.log"
        shop.open(file)
        shop.pay(1)
        file.rename(tmp_path / "moved")
        file.mkdir()
        shop.pay(3)
        file.rmdir()
        shop.pay(1)

        assert trouble(file, "Is a directory") == reports()
        assert RECORDS == len(read(tmp_path / "moved"))
        lost, *rest = read(file)
        assert ("records_lost", {"lost": 3 * RECORDS}) == (lost["message"], lost["extra"])
        assert RECORDS == len(rest)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_whose_disk_fills_up(self, shop, tmp_path, reports):
        """
        A disk that takes no more, and later does again.
        """
        file = tmp_path / "shop.log"
        shop.open(file)
        shop.pay(1)
        file.rename(tmp_path / "moved")
        file.symlink_to("/dev/full")
        shop.pay(3)
        shop.policies.log.close()  # lets go of the device, which stays open however often it fails
        file.unlink()
        shop.pay(1)

        assert trouble(file, "No space left on device") == reports()
        lost, *rest = read(file)
        assert ("records_lost", {"lost": 3 * RECORDS}) == (lost["message"], lost["extra"])
        assert RECORDS == len(rest)

    @pytest.mark.parametrize("whole", [False, True], ids=["file", "folder"])
    def test_that_is_deleted(self, shop, tmp_path, reports, whole):
        """
        A fresh one is made, with its folder; that is no trouble.
        """
        file = tmp_path / "logs" / "shop.log"
        shop.open(file)
        shop.pay(1)
        shutil.rmtree(file.parent) if whole else file.unlink()
        shop.pay(2)

        assert [] == reports()
        assert 2 * RECORDS == len(read(file))


class TestListener:
    def test_that_raises(self, shop, reports):
        """
        The other listeners hear of every event.
        """

        def broken(event):
            raise RuntimeError("listener fault")

        seen = []
        shop.open(listeners=[broken, seen.append])
        shop.pay(3)

        assert [f"the listener {broken!r} raised; this is reported once"] == reports()
        assert 3 * RECORDS == len(seen)

    def test_callback_that_raises(self, shop, reports):
        """
        The metrics have counted what they tell of.
        """

        def broken(point):
            raise RuntimeError("callback fault")

        metrics = ErrorMetrics()
        metrics.register_callback(broken)
        metrics.watch(shop.open())
        shop.pay(3)

        assert [f"the metrics callback {broken!r} raised; this is reported once"] == reports()
        assert 3 == metrics.get_error_summary().total

    @pytest.mark.parametrize("kind", ["listener", "callback"])
    def test_that_blocks_holds_up_its_own_call_only(self, shop, kind):
        """
        While one is blocked in the middle of a call, other threads call the same target, and look at it.
        """
        first, entered, let = [], threading.Event(), threading.Event()

        def block(_):
            if not first:
                first.append(True)
                entered.set()
                assert let.wait(30)

        metrics = ErrorMetrics()
        policies = shop.open(listeners=[block] if kind == "listener" else [])
        if kind == "callback":
            metrics.register_callback(block)
            metrics.watch(policies)

        def ship():
            with pytest.raises(ConnectionError):
                shop.call("shop.ship")

        blocked = threading.Thread(target=ship)
        blocked.start()
        assert entered.wait(30)
        try:
            with pytest.raises(CircuitBreakerOpen):  # the call that is held up has opened it
                shop.call("shop.ship")
            shop.pay(2)
            snapshot, health = policies.snapshot(), policies.health()
        finally:
            let.set()
            blocked.join(30)

        assert not blocked.is_alive()
        assert "open" == snapshot.targets["shop.ship"].breakers[0].state
        assert "failing" == health.status.value
        assert 2 == snapshot.targets["shop.pay"].failed


class TestMetricsPort:
    def test_in_use(self, shop, reports):
        """
        The program goes on without an endpoint.
        """
        policies = shop.open()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            place, end = f"metrics can't be served on 127.0.0.1:{port}", "calls go on without them"
            with serve_metrics(policies, port) as server:
                shop.pay(3)

        assert not server.is_serving
        assert [f"{place}: the port is in use, perhaps by another run of this program; {end}"] == reports()

    def test_in_use_is_told_in_the_log(self, shop, tmp_path):
        """
        The active policies' log has a record of it, as it has of what happens to calls.
        """
        with shop.open(tmp_path / "shop.log") as policies, socket.create_server(("127.0.0.1", 0)) as taken:
            activate(policies)
            server = serve_metrics(policies, taken.getsockname()[1])
            assert policies.log.flush(30)
        (record,) = read(tmp_path / "shop.log")

        assert ("warning", {"logger": "pixel_llm"}) == (record["level"], record["context"])
        assert f"{server.trouble}; calls go on without them" == record["message"]


class TestTrouble:
    def test_of_a_listener_is_told_in_the_log(self, shop, tmp_path, reports):
        """
        With where it came from; the program's own handlers hear of it once, as before.
        """

        def broken(event):
            raise RuntimeError("listener broke")

        with shop.open(tmp_path / "shop.log", listeners=[broken]) as policies:
            activate(policies)
            shop.pay(1)
        (record,) = [record for record in read(tmp_path / "shop.log") if record["context"].get("logger")]

        assert reports() == [record["message"]]
        assert ("error", "RuntimeError") == (record["level"], record["exception_type"])
        assert record["stack_trace"].endswith("RuntimeError: listener broke")

    def test_on_a_console_is_told_once(self, tmp_path):
        """
        By the log if that writes there, unless the program has handlers of its own, which are told in any case.
        """
        code = (
            "import sys, logging, pixel_llm\n"
            "from pixel_llm.events.trouble import report_trouble\n"
            "policies = pixel_llm.load_policies(overrides={'logging': {'console': True}})\n"
            "policies.activate()\n"
            "report_trouble('a listener broke', exc_info=False)\n"
            "policies.log.flush()\n"
            "logging.basicConfig(stream=sys.stdout)\n"
            "report_trouble('another', exc_info=False)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

        assert (1, 1) == (done.stderr.count("a listener broke"), done.stderr.count("another"))
        assert "ERROR:pixel_llm:another\n" == done.stdout

    def test_below_the_policy_s_level_is_not(self, shop, tmp_path):
        """
        The log's level counts for it, and a level for the logger ``pixel_llm``.
        """
        with shop.open(tmp_path / "shop.log") as policies:
            activate(policies)
            report_trouble("one", level=logging.WARNING, exc_info=False)
            policies.log.levels.change("ERROR", "pixel_llm")
            report_trouble("two", level=logging.WARNING, exc_info=False)
            assert policies.log.flush(30)

        assert ["one"] == [record["message"] for record in read(tmp_path / "shop.log")]
