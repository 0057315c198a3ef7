"""Memory that is not there, and memory that kernels take: errors that say who wanted how much, and the peak of large
planes. Nothing here allocates much: sizes are beyond any address space, or a process of its own gets a limit."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import lkops
from lkops._core.extension import extension_error
from lkops.testing import Draw, arguments, cast, examples, invoke
from tests.lkops.ops.harness import OPERATORS, runs

ROOT = Path(__file__).parents[3]
HERE = [(operator, backend) for operator, backend, device, dtype in runs() if (device, dtype) == ("cpu", torch.float32)]
BACKENDS = sorted({backend for _, backend in HERE})
no_limits = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's limits and /proc")
no_kernels = pytest.mark.skipif(bool(extension_error("_C_cpu")), reason=extension_error("_C_cpu") or "C++ kernels")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1 << 20, 1 << 40])
def test_an_enlargement_beyond_all_memory(backend, scale) -> None:
    x, side = torch.rand(1, 1, 4, 4), 4 * scale
    with pytest.raises(torch.OutOfMemoryError) as caught:
        lkops.bicubic_upsample(x, scale=scale, backend=backend)
    expected = f"its output (1, 1, {side}, {side}) of torch.float32 takes {4 * side * side} bytes"
    assert str(caught.value).startswith(f"bicubic_upsample: out of memory: {expected}")


# operator -> arguments that ask for 2^46 elements of output
SMALL_IN_LARGE_OUT = {
    "upsample_add": lambda: ({"features": Draw()(1, 1, 2048, 2048), "weight": Draw()(2**22, 1, 1, 1)}, {"scale": 2048}),
    "norm_conv1x1_gelu": lambda: (
        {
            "x": Draw()(1, 1, 2048, 2048),
            "norm_weight": Draw()(1),
            "norm_bias": Draw()(1),
            "weight": Draw()(2**24, 1, 1, 1),
            "bias": None,
        },
        {},
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operator", SMALL_IN_LARGE_OUT)
def test_other_outputs_that_are_larger_than_the_arguments(operator, backend) -> None:
    tensors, options = SMALL_IN_LARGE_OUT[operator]()
    shape = (1, 2**22 // 2048**2, 2048**2, 2048**2) if "scale" in options else (1, 2**24, 2048, 2048)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        invoke(operator, cast(tensors, torch.float32), options, backend)
    size = 4 * torch.Size(shape).numel()
    assert str(caught.value).startswith(f"{operator}: out of memory: ")
    assert f"its output {shape} of torch.float32 takes {size} bytes" in str(caught.value)


@pytest.mark.parametrize("side", [2**22, 2**29], ids=["beyond_memory", "beyond_64_bits"])
@pytest.mark.parametrize(("operator", "backend"), HERE)
def test_a_view_too_large_to_be_made_contiguous(operator, backend, side) -> None:
    if (operator, backend) == ("channel_attention", "reference"):
        pytest.skip("sums views as they are, pixel by pixel")
    tensors, options = arguments(operator, examples(operator)["plain"])
    single = cast(tensors, torch.float32)
    for name, tensor in single.items():
        if tensor is not None and tensor.dim() == 4 and tensor.shape[2] == 8:
            single[name] = tensor[:, :, :1, :1].expand(*tensor.shape[:2], side, side)
    shape = (2, 8, side, side)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        invoke(operator, single, options, backend)
    assert str(caught.value).startswith(f"{operator}: out of memory: ")
    assert f"{shape} of torch.float32 takes {4 * 16 * side * side} bytes" in str(caught.value) or (
        operator == "bicubic_upsample" and f"its output (2, 8, {4 * side}, {4 * side})" in str(caught.value)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_errors_stay_as_they_are(backend) -> None:
    class Broken(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            raise RuntimeError("something else")

    with Broken(), pytest.raises(RuntimeError, match=r"^something else$") as caught:
        lkops.depthwise_conv2d(torch.rand(1, 2, 5, 5), torch.rand(2, 1, 3, 3), backend=backend)
    assert not isinstance(caught.value, torch.OutOfMemoryError)


def run_alone(program: str) -> str:
    """What a process of its own prints, with one thread and large blocks that go back to the system at once."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# with ever more address space, from none until the call succeeds: what each failure says
LIMITED = """
    import json, resource
    import torch, lkops
    from lkops.testing import Draw, arguments, cast, examples, invoke, run
    from tests.lkops.ops.harness import OPERATORS, case_of, runs

    CASES = {operator: examples(operator)["megabytes"] for operator in OPERATORS}

    def space():
        line = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
        return int(line.split()[1]) << 10

    torch.backends.mkldnn.set_flags(False)  # oneDNN, in the reference's convs, ends the process where it gets no memory

    said = []
    for operator, case in CASES.items():
        for backend, dtype in (("reference", torch.float32), ("cpu", torch.bfloat16)):
            tensors, options = arguments(operator, case)
            tensors = cast(tensors, dtype)
            if backend == "cpu":
                tensors = {name: t.requires_grad_() for name, t in tensors.items()}
            image = tuple(next(iter(tensors.values())).shape)

            def call():
                outputs = invoke(operator, tensors, options, backend)
                if backend == "cpu":
                    sum(output.sum() for output in outputs).backward()

            call()
            step = 1 << 21 if backend == "cpu" else 1 << 25
            for limit in range(space(), 1 << 62, step):
                resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
                try:
                    call()
                    break
                except Exception as error:
                    said.append((operator, backend, image, type(error).__name__, str(error)))
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    print(json.dumps(said))
"""


@no_limits
@no_kernels
def test_every_allocation_that_fails_says_for_what() -> None:
    said = json.loads(run_alone(LIMITED))
    for operator, _, image, kind, message in said:
        assert kind == "OutOfMemoryError", message
        assert message.removeprefix("backward of ").startswith(f"{operator}: out of memory: "), message
        assert " bytes" in message, message
        if message.startswith(operator):
            assert f"the image {tuple(image)} of torch." in message
    for operator in OPERATORS:
        here = [message for name, backend, _, _, message in said if (name, backend) == (operator, "cpu")]
        assert any(message.startswith("backward of ") for message in here), operator
        # losses take next to no scratch, the gate next to no output
        assert operator == "spectral_losses" or any("scratch takes" in message for message in here), operator
        assert operator == "channel_attention" or any("a result of shape" in message for message in here), operator


# kilobytes of memory at the peak beyond what was there before: of forward, and of both directions
PEAK = """
    import torch, lkops

    side = 3000
    x = torch.ones(1, 2, side, side, dtype=torch.bfloat16, requires_grad=True)
    weight, bias = torch.rand(2, 1, 7, 7).bfloat16().requires_grad_(), torch.rand(2).bfloat16().requires_grad_()
    grad = torch.ones_like(x)

    def gradients_of(y, x, grad):
        return torch.autograd.grad(y, (x, weight, bias), grad)

    few = torch.ones(1, 2, 8, 8, dtype=torch.bfloat16, requires_grad=True)  # what torch imports at the first call
    y = lkops.depthwise_conv2d(few, weight, bias, dilation={dilation}, backend="cpu")
    gradients_of(y, few, torch.ones_like(few))

    def peak():  # not ru_maxrss, which a child has from its parent
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins here
    before = peak()
    with torch.no_grad():
        y = lkops.depthwise_conv2d(x, weight, bias, dilation={dilation}, backend="cpu")
    forward = peak() - before
    del y
    y = lkops.depthwise_conv2d(x, weight, bias, dilation={dilation}, backend="cpu")
    gradients = gradients_of(y, x, grad)
    print(forward, peak() - before)
"""


@no_limits
@no_kernels
@pytest.mark.parametrize("dilation", [1, 7])
def test_large_planes_take_little_beyond_their_output(dilation) -> None:
    output, bands = 2 * 2 * 3000 * 3000, 12 << 20
    forward, both = (1024 * int(number) for number in run_alone(PEAK.format(dilation=dilation)).split())
    assert output / 2 <= forward <= output + bands
    assert both <= 2 * output + 2 * bands  # y and the gradient of x
