"""Sampling while the page stays alive: one worker, the last request wins, a request can be cancelled at every step."""

import threading
from collections.abc import Callable
from typing import Any


class Cancelled(Exception):
    """Raised inside a job that is no longer wanted."""


class Job:
    """One piece of work and whether it is still wanted; `check` raises `Cancelled` when it is not."""

    def __init__(self, work: Callable[["Job"], Any], failed: Callable[[Exception], object]):
        self.work, self.failed = work, failed
        self.unwanted = threading.Event()

    def check(self) -> None:
        """Call between steps."""
        if self.unwanted.is_set():
            raise Cancelled


class Worker:
    """Runs at most one job at a time in a thread that ends with its work; a new request takes the place of all others.

    An exception in a job goes to its `failed` and nowhere else: the worker stays usable.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Job | None = None
        self._next: Job | None = None
        self._thread: threading.Thread | None = None

    def request(self, work: Callable[[Job], Any], failed: Callable[[Exception], object]) -> Job:
        """Stop what is running, forget what is waiting, and run this next."""
        job = Job(work, failed)
        with self._lock:
            if self._running:
                self._running.unwanted.set()
            self._next = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="imagen-lite sampling")
                self._thread.start()
        return job

    def cancel(self) -> None:
        """Stop what is running and forget what is waiting."""
        with self._lock:
            self._next = None
            if self._running:
                self._running.unwanted.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until there is nothing left to do; False if that took too long."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
            return not thread.is_alive()
        return True

    def _run(self) -> None:
        while True:
            with self._lock:
                self._running, self._next = self._next, None
                if self._running is None:
                    self._thread = None
                    return
                job = self._running
            try:
                job.check()
                job.work(job)
            except Cancelled:
                pass
            except Exception as error:
                job.failed(error)
