"""Errors where memory is not there: which operator wanted how much, for what, on every backend.

All are `torch.OutOfMemoryError`, which is a RuntimeError. Code that torch.compile made calls the private ops itself:
there the error is the op's, with shape and bytes, and without the operator's name.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import library

# Outputs of so many bytes are allocated once before anything is computed: the block goes back, and serves the output.
PROBED = 1 << 30

# what the bindings, torch's allocators, its size arithmetic and oneDNN say
_SHORTAGES = ("out of memory", "DefaultCPUAllocator", "calculation overflowed", "bad_alloc", "failed to allocate")


def guarded(
    operator: str,
    tensors: Sequence[Any],
    options: Sequence[Any] | None,
    function: Callable[..., Any],
    *arguments: Any,
) -> Any:
    """`function(*arguments)`; where memory is not there, an error that names the operator.

    Args:
        operator: of the message.
        tensors: of the call, the image first.
        options: that follow them in the operator's schema; None where its output is not what is computed.
        function, arguments: what to call.
    """
    if torch.compiler.is_dynamo_compiling():
        return function(*arguments)
    try:
        return function(*arguments)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise torch.OutOfMemoryError(_explained(operator, tensors, options, error)) from error


def check_output(operator: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    """Raise where a large output can't be allocated. For references that build theirs from many small pieces: the
    system would end the process long before torch fails."""
    if torch.compiler.is_compiling() or not all(type(size) is int for size in shape):
        return
    if math.prod(shape) * dtype.itemsize < PROBED or device.type == "meta":
        return
    try:
        torch.empty(tuple(shape), dtype=dtype, device=device)
    except (RuntimeError, MemoryError, OverflowError) as error:  # the last: a size beyond 64 bits
        if not isinstance(error, OverflowError) and not is_shortage(error):
            raise
        raise torch.OutOfMemoryError(f"{operator}: out of memory: its output {_size(shape, dtype)}") from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory is not there."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _SHORTAGES)


def _size(shape: Sequence[int], dtype: torch.dtype) -> str:
    size = math.prod(shape) * dtype.itemsize
    in_words = f" ({size / 2**30:.3g} GiB)" if size >= 1 << 20 else ""
    return f"{tuple(shape)} of {dtype} takes {size} bytes{in_words}"


def _explained(operator: str, tensors: Sequence[Any], options: Sequence[Any] | None, error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    cause = lines[0][max(lines[0].find(words) for words in ("out of memory", "DefaultCPUAllocator", lines[0][:1])) :]
    parts = [cause.removeprefix("out of memory: ").rstrip(". ")]
    first = next((tensor for tensor in tensors if isinstance(tensor, Tensor)), None)
    if first is not None:
        name = "the image" if options is not None else "the gradient that comes in,"
        parts.append(f"{name} {_size(first.shape, first.dtype)}")
    if options is not None:
        try:
            meta = [tensor if tensor is None else tensor.to("meta") for tensor in tensors]
            output = library.fakes[f"{operator}_cpu_fwd"](*meta, *options)
            output = output if isinstance(output, Tensor) else output[0]
            parts.append(f"its output {_size(output.shape, output.dtype)}")
        except Exception:  # sizes that no tensor can have, which the cause names
            pass
    return f"{operator}: out of memory: {'; '.join(parts)}"
