"""A line on stderr that says what takes so long."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds before anything is shown


class Progress:
    """What is being done; shown from `PATIENCE` seconds on, on a terminal in one line, else in a line for each step."""

    def __init__(self, what: str) -> None:
        self.what, self.step, self._shown = what, "", False
        self._start, self._lock = time.perf_counter(), threading.Lock()
        self._timer = threading.Timer(PATIENCE, self._show)
        self._timer.daemon = True

    def __call__(self, step: str) -> None:
        """A step begins."""
        with self._lock:
            self.step = step
            if self._shown:
                self._write(step)

    def _show(self) -> None:
        with self._lock:
            self._shown = True
            self._write(self.step)

    def _write(self, text: str, end: str = "") -> None:
        try:
            tty = sys.stderr.isatty()
            start, end = ("\r\x1b[K", end) if tty else ("", "\n")
            sys.stderr.write(f"{start}{self.what}: {text}{end}")
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):  # there is no stderr, or it was closed
            pass

    @contextmanager
    def running(self) -> Iterator["Progress"]:
        """The time counts within the block."""
        self._timer.start()
        try:
            yield self
        finally:
            self._timer.cancel()
            with self._lock:
                if self._shown:
                    self._write(f"{time.perf_counter() - self._start:.1f} s", end="\n")
                self._shown = False
