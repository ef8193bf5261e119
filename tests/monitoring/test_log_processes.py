"""Real processes: nothing is lost at a normal end or a crash, nothing is lost or doubled by a fork."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap

import pytest
from logs_reading import read

BEGIN = """
import atexit, multiprocessing, os, signal, sys, threading, time
late = []
atexit.register(lambda: [call() for call in late])
from pixel_llm import load_policies, get_logger, set_context
from pixel_llm.monitoring import Log, StructuredLogger
from pixel_llm.policy import LoggingConfig

def count(log, numbers, **extra):
    for number in numbers:
        log.info("record", number=number, **extra)

def open_log(**config):
    return StructuredLogger("shop", Log(LoggingConfig(file="shop.log", queue_size=100_000, **config)))
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program in a folder of its own; gives its exit status, its standard error, and the records it wrote."""

    def run(program, timeout=120):
        (tmp_path / "program.py").write_text(BEGIN + textwrap.dedent(program))
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "program.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        file = tmp_path / "shop.log"
        return done.returncode, done.stderr, read(file) if file.exists() else []

    return run


def numbers(records):
    return [record["extra"]["number"] for record in records]


class TestEnd:
    @pytest.mark.parametrize(
        ("end", "status"),
        [("", 0), ("sys.exit(3)", 3), ("raise KeyError('crash')", 1), ("os.kill(os.getpid(), signal.SIGINT)", -2)],
        ids=["normal", "sys.exit", "crash", "interrupt"],
    )
    def test_loses_nothing(self, run, end, status):
        """
        All records are there, in order, however the program ends.
        """
        returned, error, records = run(f"log = open_log()\ncount(log, range(3000))\n{end}")

        assert status == returned, error
        assert list(range(3000)) == numbers(records)

    def test_of_a_policy_that_nobody_closed_loses_nothing(self, run):
        """
        So it is with the events of policies, and with loggers that write where those say.
        """
        _, error, records = run(
            """
            overrides = {"logging": {"file": "shop.log"}, "targets": {"a.b": {}}}
            policies = load_policies(profile="basic", overrides=overrides)
            count(get_logger("shop"), range(100))
            def fail():
                raise ConnectionResetError("gone")
            try:
                policies.wrap("a.b", fail)()
            except ConnectionError:
                pass
            """
        )

        assert "" == error
        assert list(range(100)) == numbers(records[:100])
        assert ["attempt_failed", "call_failed"] == [record["message"] for record in records[100:]]

    def test_writes_what_is_logged_while_it_ends(self, run):
        """
        Records of functions that run at the end, and of threads that are still there then, are written too.
        """
        _, error, records = run(
            """
            import logging
            log = open_log()
            atexit.register(count, log, range(20, 30))
            count(log, range(10))
            threading.Thread(target=lambda: (time.sleep(0.2), count(log, range(10, 20)))).start()
            late.append(lambda: count(log, range(30, 40)))
            """
        )

        assert "" == error
        assert list(range(40)) == numbers(records)

    def test_writes_what_only_the_end_has_to_say(self, run):
        """
        A log whose first record comes at the very end works, too: no thread can be started then.
        """
        _, error, records = run("log = open_log()\nlate.append(lambda: count(log, range(5)))")

        assert "" == error
        assert list(range(5)) == numbers(records)

    def test_writes_what_the_interpreter_itself_still_makes_log(self, run):
        """
        An object that logs when it is thrown away, as the very last thing, gets its record without a traceback.
        """
        _, error, records = run(
            """
            class Shop:
                def __del__(self):
                    log.info("record", number=1)

            log = open_log()
            count(log, range(1))
            shop = Shop()
            """
        )

        assert "" == error
        assert [0, 1] == numbers(records)

    def test_does_not_hang_with_a_sink_that_hangs(self, run):
        """
        A console that nobody reads, or a disk that hangs, keeps a program for some seconds only.
        """
        status, _, _ = run(
            """
            reader, writer = os.pipe()
            sys.stderr = os.fdopen(writer, "w")
            log = StructuredLogger("shop", Log(LoggingConfig(console=True)))
            for _ in range(200):
                log.info("x" * 1000)
            sys.stderr = None
            os.close(1)
            """,
            timeout=60,
        )

        assert 0 == status

    def test_after_a_signal_that_ends_at_once_may_be_flushed(self, run):
        """
        SIGTERM ends a program without any more ado; what was flushed is there.
        """
        status, _, records = run(
            "log = open_log()\ncount(log, range(1000))\nassert log.flush()\nos.kill(os.getpid(), signal.SIGTERM)"
        )

        assert -15 == status
        assert list(range(1000)) == numbers(records)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFork:
    @pytest.mark.parametrize("rotation", ["", "rotation=RotationConfig(max_size=20_000, keep=1000)"])
    def test_neither_loses_nor_doubles(self, run, tmp_path, rotation):
        """
        What waits when a process forks is written once, by the parent; parent and children write all of their own.
        """
        status, error, _ = run(
            f"""
            from pixel_llm.policy import RotationConfig
            log = open_log({rotation})
            count(log, range(500), who="parent")
            children = []
            for child in range(3):
                pid = os.fork()
                if pid == 0:
                    count(log, range(300), who=child)
                    sys.exit()
                children.append(pid)
                count(log, range(500 + 100 * child, 600 + 100 * child), who="parent")
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
            """
        )
        seen = {}
        for path in sorted(
            tmp_path.glob("shop.log*"), key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 1
        ):
            for record in read(path):
                seen.setdefault(record["extra"]["who"], []).append(record["extra"]["number"])

        assert (0, "") == (status, error)
        assert {"parent": list(range(800)), **{child: list(range(300)) for child in range(3)}} == {
            who: sorted(found) for who, found in seen.items()
        }

    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    def test_of_multiprocessing_loses_nothing(self, run, method):
        """
        Its processes end without running what atexit knows; their records are written all the same.
        """
        _, error, records = run(
            f"""
            def work(number):
                count(open_log() if log is None else log, range(number, number + 200))

            log = None
            if __name__ == "__main__":
                log = open_log()
                count(log, range(200))
                log.flush()
                context = multiprocessing.get_context({method!r})
                processes = [context.Process(target=work, args=(number,)) for number in (200, 400)]
                for process in processes:
                    process.start()
                for process in processes:
                    process.join()
                count(log, range(600, 800))
            """
        )

        assert "" == error
        assert list(range(800)) == sorted(numbers(records))

    def test_while_others_log_does_not_hang(self, run):
        """
        Whatever the other threads of the parent hold at that moment, the child goes on.
        """
        status, error, _ = run(
            """
            log = open_log(sampling=None)
            stop = threading.Event()
            def work():
                while not stop.is_set():
                    log.info("busy")
                    time.sleep(0)
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for child in range(20):
                pid = os.fork()
                if pid == 0:
                    log.info("child")
                    os._exit(0 if log.flush(20) else 1)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
            """
        )

        assert (0, "") == (status, error)


class TestImport:
    def test_starts_nothing(self, run):
        """
        Loading a policy, and getting a logger, starts no thread and makes no file.
        """
        status, error, _ = run(
            """
            load_policies(profile="production")
            get_logger("shop")
            assert threading.active_count() == 1
            assert not os.path.exists("logs")
            """
        )

        assert (0, "") == (status, error)


class TestSpawn:
    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_writes_where_the_child_loads_the_policies_too(self, run, method):
        """
        Nothing is active in a process that begins anew: one that loads the policies writes to the same file.
        """
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip("not on this system")
        _, error, records = run(
            f"""
            def load():
                return load_policies(profile="basic", overrides={{"logging": {{"file": "shop.log"}}}})

            def work(number, loads):
                if loads:
                    load()
                get_logger("shop").info("record", number=number)

            if __name__ == "__main__":
                load()
                context = multiprocessing.get_context({method!r})
                children = [context.Process(target=work, args=(number, number < 2)) for number in range(3)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
                count(get_logger("shop"), [3])
            """
        )

        assert "" == error
        assert [0, 1, 3] == sorted(numbers(records))
