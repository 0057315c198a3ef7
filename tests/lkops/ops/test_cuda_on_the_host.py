"""The cuda backend without a GPU: its kernels, run block by block by the host (tests/csrc/cuda.h), behind the operators
on CPU tensors, with Triton's interpreter for the other stages. What is left to a GPU is <<<>>> and the bindings."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lkops
import lkops.nn
from lkops import backends
from lkops._core import library as _library
from lkops._core import triton_ops
from lkops._core.library import gradients_like
from lkops.ops.lk_block import cuda_kernels
from lkops.ops.lk_block.cuda_kernels import is_small
from lkops.testing import Draw, Example, arguments, assert_as_good_as_eager, cast, check, examples, run
from lkops.testing import operator as operator_of
from tests.lkops.ops.harness import cases

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "tests" / "csrc" / "cuda_library.cc"
COMPILER = os.environ.get("CXX", "c++").split()
LIMITS = {"h100": 227 * 256, "tiles": 6000}  # floats of shared memory

pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no C++ sources beside these tests"),
    pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="no C++ compiler on the path or in CXX"),
    pytest.mark.skipif(not backends.INTERPRETED, reason="Triton's interpreter is off: a GPU is here"),
]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("cuda") / "kernels.so"
    command = [*COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", "-DLKOPS_BUILT=Portable", f"-I{ROOT / 'csrc'}"]
    command += [str(SOURCE), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(target))
    library.host_cascade_parts.restype = ctypes.c_int64
    return library


def pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    for tensor in tensors:
        assert tensor is None or (tensor.is_contiguous() and tensor.dtype is torch.float32)
    return [ctypes.c_void_p(t.data_ptr() if t is not None and t.numel() else None) for t in tensors]


def numbers(*values: int) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


@pytest.fixture(params=LIMITS)
def on_the_host(
    request: pytest.FixtureRequest, kernels: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list]:
    """Within the test the cuda backend takes float32 tensors on the CPU; gives the names of what was called."""
    limit, called = ctypes.c_int64(LIMITS[request.param]), []

    def sizes(u: Tensor, w1: Tensor, w2: Tensor, *dilations: int) -> Any:
        return numbers(*u.shape, *w1.shape[2:], dilations[0], *w2.shape[2:], dilations[1])

    def cascade_forward(u, w1, b1, w2, b2, *dilations):
        called.append("cascade_forward")
        s = sizes(u, w1, w2, *dilations)
        parts = kernels.host_cascade_parts(s, limit)
        a1, a2, sums = torch.empty_like(u), torch.empty_like(u), u.new_empty(len(u), 3 * u.shape[1], parts)
        kernels.host_cascade_forward(s, limit, *pointers(u, w1, b1, w2, b2, a1, a2, sums))
        return a1, a2, sums

    def cascade_backward(parts, du, u, a1, w1, b1, w2, b2, dmean, dilation1, dilation2, needs):
        called.append("cascade_backward")
        gradients = gradients_like(needs, w1, b1, w2, b2)
        s = sizes(u, w1, w2, dilation1, dilation2)
        kernels.host_cascade_backward(s, limit, *pointers(u, a1, w1, w2, dmean, parts, du, *gradients))
        return tuple(gradients)

    def depthwise_forward(x, weight, bias, dilation):
        called.append("depthwise_forward")
        y = torch.empty_like(x)
        s = numbers(*x.shape, *weight.shape[2:], dilation)
        kernels.host_depthwise_forward(s, limit, *pointers(x, weight, bias, y))
        return y

    def depthwise_backward(grad, x, weight, bias, dilation, needs):
        called.append("depthwise_backward")
        gradients = gradients_like(needs, x, weight, bias)
        s = numbers(*x.shape, *weight.shape[2:], dilation)
        kernels.host_depthwise_backward(s, limit, *pointers(grad, x, weight, *gradients))
        return tuple(gradients)

    def block_inference(x, *rest):
        called.append("block_inference")
        *parameters, keep, dilation1, dilation2, interleave, eps, cooperative = rest
        assert (dilation1, dilation2, cooperative) == (5, 7, True)
        (n, c, h, w), k, members = x.shape, len(parameters[2]), parameters[12].shape[1]
        y, sums = torch.empty_like(x), x.new_empty(n, 3 * k)
        maps = [x.new_empty(n, k, h, w) for _ in range(4)]
        s = numbers(c, n, k, h, w, len(parameters[8]), 3 * k // members, interleave)
        tensors = pointers(x, *parameters, keep, y, *maps, sums)
        kernels.host_block_inference(s, limit, ctypes.c_float(eps), *tensors)
        return y

    library = torch.library.Library("lkops", "IMPL")
    library.impl("block_inference_cuda", block_inference, "CPU")
    library.impl("attention_cascade_cuda_fwd", cascade_forward, "CPU")
    library.impl("attention_cascade_cuda_bwd", cascade_backward, "CPU")
    library.impl("depthwise_conv2d_cuda_fwd", depthwise_forward, "CPU")
    library.impl("depthwise_conv2d_cuda_bwd", depthwise_backward, "CPU")
    for operator in ("large_kernel_channel_attention", "lk_block"):
        for direction, suffix in (("forward", "fwd"), ("backward", "bwd")):
            op = f"{operator}_cuda_{suffix}"
            launcher = triton_ops._launcher(f"lkops.ops.{operator}.cuda_kernels", direction, _library.fakes[op])
            library.impl(op, launcher, "CPU")
    monkeypatch.setitem(backends.DEVICES, "cuda", ("cuda", "cpu"))
    for operator in ("large_kernel_channel_attention", "depthwise_conv2d", "lk_block"):
        monkeypatch.setitem(operator_of(operator).missing, "cuda", "")
    yield called
    library._destroy()


CASES = [(op, case) for op in ("depthwise_conv2d", "large_kernel_channel_attention") for case in cases(op)]
CASES += [("lk_block", examples("lk_block")["plain"])]  # for training it is made of the cascade


@pytest.mark.wide(most=8)
@pytest.mark.parametrize(
    ("operator", "case"), CASES, ids=lambda value: value.name if isinstance(value, Example) else value
)
def test_values_and_gradients(on_the_host, operator, case) -> None:
    check(operator, "cuda", "cpu", torch.float32, case)
    name = "depthwise" if operator == "depthwise_conv2d" else "cascade"
    empty = case.shape[0] == 0 and name == "cascade"  # nothing is launched for an empty batch
    assert on_the_host == ([] if empty else [f"{name}_forward", f"{name}_backward"])


@pytest.mark.wide(most=4)
@pytest.mark.parametrize("kept", ["u", "dw1_weight", "dw1_bias", "dw2_weight", "dw2_bias", "mix_weight"])
def test_a_gradient_alone_has_the_bits_of_all(on_the_host, kept) -> None:
    """What is not needed is not computed, and changes nothing else."""
    operator = "large_kernel_channel_attention"
    tensors, options = arguments(operator, examples(operator)["plain"])
    single = cast(tensors, torch.float32)
    everything = run(operator, single, options, "cuda")
    leaves = {name: None if t is None else t.clone().requires_grad_(name == kept) for name, t in single.items()}
    y = lkops.large_kernel_channel_attention(**leaves, **options, backend="cuda")
    assert torch.equal(y.detach(), everything["output 0"])
    y.backward(Draw()(*y.shape).float())
    assert torch.equal(leaves[kept].grad, everything[f"gradient of {kept}"])


def inference(operator: str, tensors: dict, options: dict, backend: str) -> Tensor:
    with torch.inference_mode():
        y: Tensor = getattr(lkops, operator)(**tensors, **options, backend=backend)
    return y


@pytest.mark.wide(most=4)
@pytest.mark.parametrize("case", cases("lk_block"), ids=lambda case: case.name)
def test_inference_of_a_small_block(on_the_host, case) -> None:
    """By the one launch, where the kernels are LKCA-Net's."""
    tensors, options = arguments("lk_block", case)
    exact, single = inference("lk_block", tensors, options, "reference"), cast(tensors, torch.float32)
    eager, ours = (inference("lk_block", single, options, backend) for backend in ("reference", "cuda"))
    assert_as_good_as_eager(ours, eager, exact)
    launched = ["cascade_forward"] if "kernels" in case.sizes else ["block_inference"]
    assert on_the_host == ([] if case.shape[0] == 0 else launched)


@pytest.mark.parametrize(
    ("shape", "kernels", "channels"),
    [((1, 33, 5), (5, 7), 4), ((9, 3, 3), (5, 7), 4), ((1, 3, 3), (7, 5), 4), ((1, 3, 3), (5, 7), 388)],
    ids=["rows", "samples", "kernels", "channels"],
)
def test_what_the_one_launch_does_not_take(shape, kernels, channels) -> None:
    n, h, w = shape
    block = lkops.nn.LKBlock(channels, kernel_sizes=kernels, reduction=2)
    x = torch.empty(n, channels, h, w)
    assert not is_small(x, block.arguments()[2:], (5, 7))
    fitting = lkops.nn.LKBlock(8, reduction=2)
    assert is_small(torch.empty(8, 8, 32, 32), fitting.arguments()[2:], (5, 7))
    assert not is_small(torch.empty(8, 8, 32, 32), fitting.arguments()[2:], (5, 5))


def test_the_bounds_of_python_are_those_of_c() -> None:
    text = (ROOT / "csrc/lk_block/cuda.h").read_text()
    for name in ("Batch", "Side", "Inner", "Hidden"):
        assert f"kSmall{name} = {getattr(cuda_kernels, f'SMALL_{name.upper()}')}" in text
