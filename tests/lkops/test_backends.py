"""The choice of a backend: asked-for runs or raises, automatic falls back and status() shows it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import lkops
from lkops import backends, testing

X = torch.randn(1, 2, 3, 3)


@pytest.fixture
def ran() -> Iterator[list[backends.Call]]:
    """The calls, in order."""
    with backends.record() as calls:
        yield calls


def names(calls: list[backends.Call]) -> list[str]:
    return [call.backend for call in calls]


def up(**options) -> None:
    lkops.bicubic_upsample(X, scale=2, **options)


def test_status_lists_every_operator_and_backend_once() -> None:
    rows = backends.status()
    assert {(r.operator, r.backend) for r in rows} == {(o, b) for o in backends.operators() for b in backends.NAMES}
    assert len(rows) == len(backends.operators()) * len(backends.NAMES)
    for operator in backends.operators():
        assert sum(row.automatic for row in rows if row.operator == operator) == 1
    for row in rows:
        assert row.available == (not row.reason)
        assert row.available or not row.automatic
        assert row.operator in str(rows)
        assert row.reason in str(rows)


def test_status_says_what_runs(ran) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        lkops.bicubic_upsample(X.to(dtype, copy=True).requires_grad_(), scale=2)  # else no choice stands before C++
        automatic = next(r for r in backends.status("cpu", dtype) if r.operator == "bicubic_upsample" and r.automatic)
        assert automatic.backend == ran[-1].backend
    assert ran[-1].backend == "reference"  # no kernel takes float64


def test_named_runs_or_raises_with_the_reason(ran) -> None:
    up(backend="reference")
    assert names(ran) == ["reference"]
    with pytest.raises(RuntimeError, match="backend 'cuda' can't run bicubic_upsample: "):
        up(backend="cuda")
    with pytest.raises(RuntimeError, match=r"'triton' can't run lk_block: .*; backend 'cuda' can't run lk_block"):
        backends.choose("lk_block", ["triton", "cuda"], [X.double()])  # no kernel takes float64
    up(backend=["cuda", "reference"])
    up(backend="cuda, reference")
    assert names(ran) == ["reference", "reference", "reference"]


def test_a_record_names_operators_backends_and_shapes(ran) -> None:
    up()  # the short way to C++
    with backends.record() as inner:
        lkops.spectral_losses(X, X.double(), backend="reference")
    call = inner[0]
    assert [c.operator for c in ran] == ["bicubic_upsample", "spectral_losses"]
    assert dict(ran[0].shapes) == {"x": (1, 2, 3, 3)}
    assert (call.backend, call.dtype, call.device) == ("reference", torch.float32, "cpu")
    assert dict(call.shapes) == {"prediction": (1, 2, 3, 3), "target": (1, 2, 3, 3)}
    up()
    assert (len(ran), len(inner)) == (3, 1)


def test_blocks_that_saw_the_same_end_each_for_itself() -> None:
    with backends.record() as outer:
        with backends.record() as inner:
            up()
        up()
    up()
    assert (len(outer), len(inner)) == (2, 1)


@pytest.mark.parametrize("gradient", [False, True])
def test_recording_compiles_nothing_again(gradient) -> None:
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda x: lkops.bicubic_upsample(x, scale=2) + 1, fullgraph=True, backend=counter)
    x = X.clone().requires_grad_(gradient)
    expected = compiled(x)
    with backends.record() as calls:
        assert torch.equal(compiled(x), expected)
    assert counter.frame_count == 1
    assert not calls


def test_asking_for_raw_arguments_stops_no_other_thread() -> None:
    inside, done = threading.Event(), threading.Event()

    class Slow:
        """An option that another thread overtakes."""

        def __index__(self) -> int:
            inside.set()
            assert done.wait(60)
            return 2

    asked = []
    operator = testing.operator("bicubic_upsample")
    thread = threading.Thread(target=lambda: asked.append(operator.raw(x=X, scale=Slow())))
    thread.start()
    assert inside.wait(60)
    try:
        up()
        up(backend="reference")
    finally:
        done.set()
        thread.join()
    assert asked[0].options[0] == 2


def chosen() -> str:
    return backends.choose("bicubic_upsample", None, [X])


def test_the_context_holds_in_its_thread_and_ends() -> None:
    automatic, elsewhere = chosen(), []
    with lkops.backend("reference"):
        assert chosen() == "reference"
        with lkops.backend("cuda"):
            with pytest.raises(RuntimeError, match="'cuda' can't run"):
                up()
            up(backend="reference")  # the argument is stronger
            thread = threading.Thread(target=lambda: elsewhere.append(chosen()))
            thread.start()
            thread.join()
        assert chosen() == "reference"
    assert chosen() == automatic
    assert elsewhere == [automatic]


def test_the_context_ends_after_an_error() -> None:
    before = chosen()
    with pytest.raises(KeyError), lkops.backend("reference"):
        raise KeyError
    assert chosen() == before


@pytest.mark.parametrize("names", [(), ("",), ("gpu",), ("cpu", "gpu")])
def test_names_that_do_not_exist(names) -> None:
    message = r"names .*; expected one or more of reference, cpu, triton, cuda"
    with pytest.raises(ValueError, match=message), lkops.backend(*names):
        pass


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


CHOICE = "import torch, lkops; print(lkops.backends.choose('bicubic_upsample', None, [torch.zeros(1, 1, 1, 1)]))"


def test_the_environment_variable() -> None:
    assert run_python(CHOICE, LKOPS_BACKEND="cuda,reference").stdout == "reference\n"
    assert "backend 'cuda' can't run bicubic_upsample" in run_python(CHOICE, LKOPS_BACKEND="cuda").stderr
    assert "LKOPS_BACKEND names 'fast'; expected one or more of" in run_python(CHOICE, LKOPS_BACKEND="fast").stderr


def test_lkops_needs_torch_only() -> None:
    """Importing and using lkops works where every optional package is missing."""
    code = """
import sys
for name in ("numpy", "triton", "lightning", "scipy", "safetensors", "einops", "matplotlib", "lkcanet"):
    sys.modules[name] = None
import torch, lkops
print(tuple(lkops.nn.LKBlock(16)(torch.randn(1, 16, 4, 4)).shape))
"""
    done = run_python(code)
    assert done.stdout == "(1, 16, 4, 4)\n", done.stderr


def test_env_report() -> None:
    done = subprocess.run([sys.executable, "-m", "lkops.env"], capture_output=True, text=True, check=True)
    for word in ("torch", torch.__version__, "LKOPS_BACKEND", "bicubic_upsample", "reference"):
        assert word in done.stdout
