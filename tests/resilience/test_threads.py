import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

from pixel_llm.resilience.threads.pool import WORKERS, WorkerThreads


@pytest.fixture
def release():
    """Lets go, at the end of the case, whatever a thread still waits for."""
    event = threading.Event()
    yield event
    event.set()


class Work:
    """Runs functions in *threads* and waits until their threads are free again."""

    def __init__(self, threads):
        self.threads = threads

    def begin(self, function=lambda: None, name="pixel-llm test"):
        ended = threading.Event()

        def task():
            self.seen = (threading.current_thread(), threading.current_thread().name)
            function()
            return ended.set

        self.threads.run(task, name)
        return ended

    def __call__(self, *args, **kwargs):
        assert self.begin(*args, **kwargs).wait(10)
        return self.seen


@pytest.fixture
def threads():
    return WorkerThreads(max_idle=2, idle_seconds=60)


@pytest.fixture
def work(threads):
    return Work(threads)


class TestWorkerThreads:
    def test_reuses_a_thread(self, work):
        """
        Whoever hears that the work has ended gets the very same thread with the next task.
        """
        first, second = work()[0], work()[0]

        assert first is second
        assert 1 == work.threads.idle

    def test_never_queues(self, work, release):
        """
        A task begins at once, however many are under way.
        """
        busy = [work.begin(lambda: release.wait(10)) for _ in range(8)]
        work()
        release.set()

        assert all(ended.wait(10) for ended in busy)

    def test_are_daemons_named_after_their_work(self, work):
        """
        A thread keeps no process alive, and carries the name of what it does.
        """
        first, second = work(name="pixel-llm one"), work(name="pixel-llm two")

        assert ["pixel-llm one", "pixel-llm two"] == [first[1], second[1]]
        assert first[0].daemon

    def test_a_few_wait(self, work, release):
        """
        Of many threads that come free only so many stay; the others end.
        """
        seen = []

        def hold():
            seen.append(threading.current_thread())
            release.wait(10)

        busy = [work.begin(hold) for _ in range(5)]
        while len(seen) < 5:
            work()
        release.set()
        for ended in busy:
            ended.wait(10)
        gone = [thread for thread in seen if thread not in {worker.thread for worker in work.threads._idle}]
        ends = time.monotonic() + 5
        for thread in gone:
            thread.join(max(0.0, ends - time.monotonic()))

        assert 2 == work.threads.idle
        assert not any(thread.is_alive() for thread in gone)

    def test_ends_when_there_is_no_work(self):
        """
        A thread that nobody needs for a while ends.
        """
        work = Work(WorkerThreads(idle_seconds=0.01))
        thread, _ = work()
        thread.join(10)

        assert not thread.is_alive()
        assert 0 == work.threads.idle

    def test_does_not_end_with_a_task_on_its_way(self):
        """
        A thread that is out of patience while a task is on its way to it waits on, and does it.
        """
        ended, woken = threading.Event(), []

        class Late(WorkerThreads):
            def unpark(self, worker):
                if woken:
                    return super().unpark(worker)
                self._idle.remove(worker)  # as run() does it
                ends = super().unpark(worker)
                worker.take(lambda: woken.append(threading.current_thread()) or ended.set, "pixel-llm late")
                return ends

        thread, _ = Work(Late(idle_seconds=0.001))()

        assert ended.wait(10)
        assert [thread] == woken

    def test_holds_on_to_nothing(self, work):
        """
        What a task referred to is gone when the task has ended, though its thread waits for more.
        """

        class Thing:
            pass

        thing = Thing()
        reference = weakref.ref(thing)
        gc.disable()
        try:
            work(lambda kept=thing: None)
            del thing, work.seen
            work()  # the thread has come round

            assert reference() is None
        finally:
            gc.enable()

    def test_of_many_callers(self):
        """
        Threads that hand over tasks at once lose none, and share the threads that are free.
        """
        threads, done = WorkerThreads(), []

        def call():
            work = Work(threads)
            for _ in range(50):
                work(lambda: done.append(1))

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            callers = [threading.Thread(target=call) for _ in range(8)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        finally:
            sys.setswitchinterval(interval)

        assert 400 == len(done)
        assert threads.idle <= 8

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
    def test_after_fork(self):
        """
        A forked child has none of its parent's threads, and makes its own.
        """
        Work(WORKERS)()
        child = os.fork()
        if not child:
            ended = Work(WORKERS).begin()
            os._exit(0 if ended.wait(10) else 1)

        assert (child, 0) == os.waitpid(child, 0)

    def test_process_ends_with_a_thread_at_work(self):
        """
        Neither an idle thread nor one at work holds up the end of the process.
        """
        code = (
            "import threading\n"
            "from pixel_llm.resilience.threads.pool import WORKERS\n"
            "begun, ended = threading.Event(), threading.Event()\n"
            "WORKERS.run(lambda: ended.set, 'idle')\n"
            "ended.wait(10)\n"
            "WORKERS.run(lambda: (begun.set(), threading.Event().wait()), 'hangs')\n"
            "begun.wait(10)\n"
            "print('end')\n"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)

        assert (0, "end\n", "") == (ended.returncode, ended.stdout, ended.stderr)
