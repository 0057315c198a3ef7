"""A network of a file, called with numpy's arrays."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import _native

__all__ = ["Memory", "Network", "instruction_set", "load"]

_KEPT = 4  # plans that wait for the next image of their size


class Memory(NamedTuple):
    """Bytes that a network takes beside the low-resolution image and the result.

    Attributes:
        workspace: while it runs, and until it is released: features, the strip at hand.
        weights: in the form that the kernels want; the file itself is mapped besides.
    """

    workspace: int
    weights: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.workspace + self.weights


def instruction_set() -> str:
    """What networks run with: the widest that the CPU has, or what LKOPS_CPU_ISA names; "" where that can't be had."""
    return _native.instruction_set()


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> "Network":
    """Open a file of `lkca export`. It is mapped, not read: it must stay as it is while the network is used.

    Args:
        path: the file.
        threads: of a run; the CPUs that the process may use if not given.

    Raises:
        ValueError: the file is no network, is damaged, or of a version that this lkedge does not read.
        OSError: it is not there or may not be read.
    """
    return Network(path, threads=threads)


class Network:
    """What `load` returns. Threads may call it at the same time: each call runs on threads and memory of its own.

    Attributes:
        bands, scale: an image (bands, rows, columns) becomes (bands, scale rows, scale columns).
        dtype: of weights and features, "float32" or "bfloat16", or "int8": bfloat16, with products of 8-bit whole
            numbers; images are float32.
        metadata: what the file tells of the network, such as its config, peak and wavelengths.
        threads: of a run.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        name = os.fsdecode(path)
        with open(name, "rb", opener=_at_once):  # what can't be opened is an OSError with its number
            pass
        self._native = _native.Network(name)
        self.path = name
        self.bands, self.scale, self.dtype = self._native.bands, self._native.scale, self._native.dtype
        try:
            self.metadata: dict[str, Any] = json.loads(self._native.metadata)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}: its metadata are no JSON: {error}") from error
        if not isinstance(self.metadata, dict):
            raise ValueError(f"{name}: its metadata are no JSON object")
        self.threads = _threads(threads)
        self._lock = threading.Lock()
        self._idle: list[tuple[tuple[int, ...], Any]] = []  # the latest last

    @property
    def operators(self) -> int:
        """How many the network is a chain of."""
        return self._native.operators

    @property
    def parameters(self) -> int:
        """Numbers in its weights, weight normalisation folded."""
        return self._native.parameters

    @property
    def file_bytes(self) -> int:
        """Of the file."""
        return self._native.file_bytes

    def __call__(self, lowres: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """The image of the low-resolution one, divided by the peak as in training; not clipped.

        The same bits for any number of threads, and those of lkops on the same instruction set where the file is of
        float32. The first image of a size prepares the network for it; memory is kept for the next one until
        `release`.

        Args:
            lowres: (bands, rows, columns) or (N, bands, rows, columns), floating, any strides.
            out: where to write, float32, of the result's shape, any strides; it may overlap `lowres`.

        Returns:
            (bands, scale rows, scale columns) float32, or N of them; `out` if given.

        Raises:
            TypeError: `lowres` is not floating, or `out` not float32.
            ValueError: a shape that is not as above; NaN or infinite pixels.
            MemoryError: memory or threads that the system does not give.
        """
        image = self._checked(lowres)
        shape = (*image.shape[:-2], *(self.scale * side for side in image.shape[-2:]))
        if out is not None:
            if not isinstance(out, np.ndarray) or out.dtype != np.float32:
                raise TypeError(f"out must be a float32 array, got {getattr(out, 'dtype', type(out).__name__)}")
            if out.shape != shape:
                raise ValueError(f"out must have shape {shape}, got {out.shape}")
            if not out.flags.writeable:
                raise ValueError("out must be writeable")
        if 0 in shape:
            return np.empty(shape, np.float32) if out is None else out
        direct = (
            out is not None and out.flags.c_contiguous and out.dtype.isnative and not np.may_share_memory(out, image)
        )
        result = out if direct else np.empty(shape, np.float32)
        self._with_plan(image, 0, lambda plan: plan.run(image, result))
        if out is None or direct:
            return result
        out[...] = result
        return out

    def strips(self, lowres: np.ndarray, put: Callable[[int, np.ndarray], None], *, rows: int) -> None:
        """The same image in strips, bit for bit, so that the whole need not lie in memory.

        Args:
            lowres: as in a call.
            put: called as put(first, strip) from top to bottom with the strip (bands, h, scale columns), or N of them,
                whose first row is row `first` of the image; overwritten after the call. What it raises ends the run.
            rows: low-resolution rows of a strip, 1 or more; rounded up to an even number.

        Raises:
            As a call.
        """
        image = self._checked(lowres)
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise ValueError(f"rows must be 1 or more, got {rows!r}")
        if image.size == 0:
            return
        single = image.ndim == 3

        def take(first: int, strip: np.ndarray) -> None:
            put(first, strip[0] if single else strip)

        self._with_plan(image, rows, lambda plan: plan.run_strips(image, take))

    def memory(self, rows: int, columns: int, *, batch: int = 1, strip_rows: int = 0) -> Memory:
        """What an image of this size takes, before its workspace is taken; `strip_rows` as in `strips`."""
        plan = self._plan(batch, rows, columns, strip_rows)
        return Memory(plan.workspace_bytes, plan.bytes)

    def release(self) -> None:
        """Give back what is kept for images to come."""
        with self._lock:
            self._idle.clear()

    def _checked(self, lowres: np.ndarray) -> np.ndarray:
        array = np.asarray(lowres)
        if array.dtype.kind != "f":
            raise TypeError(f"lowres must be floating, got {array.dtype}: divide counts by their peak first")
        if array.ndim not in (3, 4) or array.shape[-3] != self.bands:
            raise ValueError(
                f"lowres must be ({self.bands}, rows, columns) or (N, {self.bands}, rows, columns) for this network, "
                f"got {array.shape}"
            )
        return np.ascontiguousarray(array, np.float32)

    def _plan(self, batch: int, rows: int, columns: int, strip_rows: int) -> Any:
        return _native.Plan(self._native, batch, rows, columns, strip_rows, self.threads, False)

    def _with_plan(self, image: np.ndarray, strip_rows: int, run: Callable[[Any], None]) -> None:
        """Calls run(plan) with one that nobody else uses; a child of fork() has none of its parent's threads."""
        batch = image.shape[0] if image.ndim == 4 else 1
        key = (os.getpid(), self.threads, batch, *image.shape[-2:], strip_rows)
        plan = None
        with self._lock:
            for index, (kept, candidate) in enumerate(self._idle):
                if kept == key:
                    plan = candidate
                    del self._idle[index]
                    break
        if plan is None:
            plan = self._plan(batch, *image.shape[-2:], strip_rows)
        run(plan)
        with self._lock:
            self._idle.append((key, plan))
            del self._idle[:-_KEPT]


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe does not block


def _threads(threads: int | None) -> int:
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads!r}")
    return threads
