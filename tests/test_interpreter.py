"""That tests/interpreter.py leaves Triton's interpreter as it was, but for its time."""

import os

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")
import triton.language as tl  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is not in use")


@triton.jit
def inner(x, times: tl.constexpr):
    for _ in tl.static_range(times):
        x = x * x
    return tl.sum(x + tl.zeros_like(x), 0)


@triton.jit
def squares_kernel(out, count, kind: tl.constexpr, times: tl.constexpr):
    program = tl.program_id(0)
    numbers = (tl.arange(0, 4) + count).to(kind)
    tl.store(out + program, inner(numbers, times) + inner(numbers - numbers, times))


@pytest.mark.parametrize("kind", [tl.int32, tl.int64, tl.float32])
def test_functions_of_functions(kind: tl.dtype) -> None:
    """Several launches, several programs, each of which calls functions of its own module and of Triton's."""
    for count in (3, 5):
        out = torch.zeros(3, dtype=torch.int64)
        squares_kernel[(3,)](out, count, kind, 2)
        assert out.tolist() == [sum((count + i) ** 4 for i in range(4))] * 3


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def subtract(x, y):
    return x - y


@triton.jit
def multiply(x, y):
    return x * y


@triton.jit
def apply_kernel(out, x, y, function: tl.constexpr):
    tl.store(out, function(tl.load(x), tl.load(y)))


@pytest.mark.parametrize(
    ("function", "x", "y", "of_6_and_2"),
    [(add, 2**31 - 1, 1, 8), (add, -(2**31), -1, 8), (subtract, -(2**31), 1, 4), (multiply, 2**16, 2**15, 12)],
)
def test_an_overflow_is_an_error(function: object, x: int, y: int, of_6_and_2: int) -> None:
    """As it was: an index beyond 2^31 is found in the interpreter."""

    def applied(x: int, y: int) -> int:
        out, *operands = (torch.tensor([value], dtype=torch.int32) for value in (0, x, y))
        apply_kernel[(1,)](out, *operands, function)
        return int(out)

    with pytest.raises(interpreter.InterpreterError, match="int32 overflow detected"):
        applied(x, y)
    assert applied(6, 2) == of_6_and_2


def test_the_language_is_put_back() -> None:
    """Also after an error within a launch, so that kernels can be compiled in the same process."""
    before = {name: getattr(tl, name) for name in ("load", "store", "arange", "range", "reduce")}
    out = torch.zeros(1, dtype=torch.int64)
    squares_kernel[(1,)](out, 3, tl.float32, 1)
    with pytest.raises(interpreter.InterpreterError):
        squares_kernel[(1,)](out, 2**15, tl.int32, 2)
    assert {name: getattr(tl, name) for name in before} == before


def test_the_language_is_put_in_place_once_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    squares_kernel[(1,)](
        torch.zeros(1, dtype=torch.int64), 3, tl.float32, 1
    )  # the first of a process rewrites functions
    calls = []
    patch = interpreter._patch_builtin
    monkeypatch.setattr(interpreter, "_patch_builtin", lambda *given: (calls.append(given), patch(*given)))
    squares_kernel[(1,)](torch.zeros(1, dtype=torch.int64), 3, tl.float32, 1)
    one = len(calls)
    squares_kernel[(50,)](torch.zeros(50, dtype=torch.int64), 3, tl.float32, 1)
    assert len(calls) == 2 * one < 30
