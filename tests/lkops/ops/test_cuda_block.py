"""The one-launch inference of small `lk_block`s on a GPU: what tests/csrc/cuda_lk_block.cpp and
test_cuda_on_the_host.py can't see, which is that blocks wait for each other, and the launch itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lkops
import lkops.nn
from lkops import backends
from lkops.ops.lk_block import cuda_kernels
from lkops.testing import assert_as_good_as_eager

WHY_NOT = backends.why_not("lk_block", "cuda", "cuda", [torch.float32]) or (
    "" if torch.cuda.is_available() else "no CUDA device is here"
)
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 128, 16, 16), (8, 128, 16, 16), (1, 128, 32, 32), (8, 64, 32, 32), (3, 24, 13, 17), (1, 8, 1, 1))


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, lkops.nn.LKBlock]:
    torch.manual_seed(sum(shape))
    block = lkops.nn.LKBlock(shape[1], reduction=4).eval().to("cuda", dtype)
    return torch.randn(shape, device="cuda").to(dtype), block


def run(block: lkops.nn.LKBlock, x: Tensor, backend: str = "cuda") -> Tensor:
    with torch.inference_mode(), lkops.backend(backend):
        y: Tensor = block(x)
    return y


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Filled with the last option of each call of the kernel."""
    calls: list[Any] = []
    packet = torch.ops.lkops.block_inference_cuda

    class Spy:
        def __getattr__(self, name: str) -> Any:
            def call(*args: Any) -> Tensor:
                calls.append(args[-1])
                y: Tensor = packet(*args)
                return y

            return call if name == "block_inference_cuda" else getattr(torch.ops.lkops, name)

    class Ops:
        lkops = Spy()

    class Torch:
        ops = Ops()
        float32 = torch.float32

    monkeypatch.setattr(cuda_kernels, "torch", Torch())
    return calls


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(launched, shape, dtype) -> None:
    """By both ways to launch the phases, which give the same bits in every run."""
    x, block = drawn(shape, dtype)
    ours, eager = run(block, x), run(block, x, "reference")
    exact = run(block.double().cpu(), x.double().cpu(), "reference")
    assert_as_good_as_eager(ours, eager, exact)
    assert launched == [True]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_bits_in_every_run_and_in_a_launch_for_each_phase(launched, monkeypatch, dtype) -> None:
    x, block = drawn((2, 128, 16, 16), dtype)
    first = run(block, x)
    for _ in range(20):  # blocks that did not wait would be seen now and then
        assert torch.equal(run(block, x), first)
    monkeypatch.setattr(cuda_kernels, "COOPERATIVE", False)
    assert torch.equal(run(block, x), first)
    assert launched == [True] * 21 + [False]


def repeated(step: Callable[[Tensor], Tensor], times: int) -> Callable[[Tensor], Tensor]:
    def run_all(x: Tensor) -> Tensor:
        for _ in range(times):
            x = step(x)
        return x

    return run_all


@pytest.mark.parametrize("cooperative", [True, False])
def test_in_a_cuda_graph(monkeypatch, cooperative) -> None:
    """Several launches one after the other, on a stream of torch's, replayed with other images."""
    monkeypatch.setattr(cuda_kernels, "COOPERATIVE", cooperative)
    x, block = drawn((1, 128, 16, 16), torch.float32)
    step = repeated(lambda x: run(block, x), 3)
    step(x)
    torch.cuda.synchronize()
    graph, given = torch.cuda.CUDAGraph(), x.clone()
    with torch.cuda.graph(graph):
        y = step(given)
    for seed in (1, 2):
        torch.manual_seed(seed)
        other = torch.randn_like(x)
        given.copy_(other)
        graph.replay()
        assert torch.equal(y, step(other))
        assert y.abs().max() > 0


def test_an_unaligned_image_and_keep() -> None:
    x, block = drawn((2, 24, 13, 17), torch.float32)
    place = torch.empty(x.numel() + 1, device="cuda")[1:].view(x.shape).copy_(x)
    assert torch.equal(run(block, place), run(block, x))
    keep = torch.tensor([0.0, 2.0], device="cuda")
    with torch.inference_mode():
        y = lkops.lk_block(x, *block.arguments(), keep=keep, backend="cuda")
    assert torch.equal(y[0], x[0])
    torch.testing.assert_close(y[1] - x[1], 2 * (run(block, x)[1] - x[1]))


def test_the_kernel_says_what_it_does_not_take() -> None:
    x, block = drawn((1, 8, 33, 4), torch.float32)
    with pytest.raises(RuntimeError, match="x must be at most"):
        torch.ops.lkops.block_inference_cuda(x, *block.arguments(), None, 5, 7, False, 1e-6, True)
