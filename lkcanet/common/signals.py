"""The alternate signal stack of a thread, kept from a library that leaves a dangling one."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int | None, int, int] | None:
    """(address, flags, size) of the calling thread's alternate signal stack; None elsewhere than on Linux."""
    if sys.platform != "linux":
        return None
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.address, stack.flags, stack.size


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Put the thread's alternate signal stack back after the block.

    OpenVINO (2026.4) sets one of its own while it compiles a model, and unmaps it with the model. The kernel then can't
    deliver the next signal, such as Ctrl-C or the end of a child process, and kills the process with SIGSEGV instead.
    """
    before = signal_stack()
    try:
        yield
    finally:
        if before is not None:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(*before)), None)
