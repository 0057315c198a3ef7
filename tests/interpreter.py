"""Triton's interpreter (3.7) without two things that take much of its time and change no result.

- Each call of a jitted function from another puts the interpreted language in place again, which the launch has done:
  here once a launch and module.
- Each sum, difference and product of whole numbers is computed again in 64 bits to find overflows, in eight interpreted
  operations: here in three of numpy's. An overflow is an error as before (test_interpreter.py).

`conftest.py` and the GPU gate's dry run call `quicken` before the first kernel. A Triton whose inside is another stays
as it is.
"""

from typing import Any

import numpy as np

EXACT = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def quicken() -> None:
    from triton.language.semantic import TritonSemantic
    from triton.runtime import interpreter

    if not {"_patch_lang", "GridExecutor", "InterpretedFunction"} <= vars(interpreter).keys():
        return
    if getattr(TritonSemantic, "binary_op_sanitize_overflow_impl", _refuse_overflow) is _refuse_overflow:
        return  # it has none, or has this one already
    _patch_once_a_launch(interpreter)
    TritonSemantic.binary_op_sanitize_overflow_impl = _refuse_overflow


def _patch_once_a_launch(interpreter: Any) -> None:
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    modules = (interpreter.tl, interpreter.tl.core)
    in_place: list[set[tuple[bool, ...]]] = []  # of the launches that run

    class Nothing:
        def restore(self) -> None: ...

    def patch_once(function: Any) -> Any:
        values = list(function.__globals__.values())
        seen = tuple(any(value is module for value in values) for module in modules)
        done = in_place[-1] if in_place else set()
        if seen in done:
            return Nothing()
        done.add(seen)
        return patch(function)

    def launch_once(self: Any, *arguments: Any, **options: Any) -> None:
        in_place.append(set())
        try:
            launch(self, *arguments, **options)
        finally:
            in_place.pop()

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch_once, launch_once


def _refuse_overflow(self: Any, lhs: Any, rhs: Any, operation: Any) -> None:
    """In place of TritonSemantic.binary_op_sanitize_overflow_impl."""
    kind = lhs.type.scalar
    if kind.int_bitwidth >= 64 or not self.builder.options.sanitize_overflow:
        return
    exact = EXACT[operation.__name__](lhs.handle.data, rhs.handle.data, dtype=np.int64)
    assert exact.size == 0 or (exact.min() >= kind.get_int_min_value() and exact.max() <= kind.get_int_max_value()), (
        f"int{kind.int_bitwidth} overflow detected for operation {operation.__name__}"
    )
