"""A run says when it begins, to whoever started it: what stands beside its result is then written by that."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

CONFIG = "config.yaml"  # the options of a run, in its folder

_listener: ContextVar[Callable[[Path], None] | None] = ContextVar("listener", default=None)


@contextmanager
def on_begin(listener: Callable[[Path], None]) -> Iterator[None]:
    """Call `listener` with the folder of each run that begins while the block runs: the folder is there then, and its
    arguments have been found good."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def begins(folder: Path) -> None:
    """Tell that a run begins in this folder."""
    listener = _listener.get()
    if listener is not None:
        listener(folder)
