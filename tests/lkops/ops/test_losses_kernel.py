"""What only `spectral_losses` promises, on every kernel that is here: mixed dtypes, sums beyond float16, pixels without
a direction, equal cubes; and every configuration of its Triton kernels."""

import itertools
import math

import pytest
import torch

import lkops
from lkops import triton
from lkops._core.extension import extension_error
from lkops.testing import Draw, arguments, assert_as_good_as_eager, cast, check, operator, policy_of, run
from tests.lkops.ops.harness import case_of, runs

KERNELS = [(backend, device, dtype) for operator, backend, device, dtype in runs(compiled_only=True)
           if operator == "spectral_losses"]  # fmt: skip
NO_CPU = extension_error("_C_cpu")
every_kernel = pytest.mark.parametrize(("backend", "device", "dtype"), KERNELS)
MIXED = [(backend, device) for backend, device, dtype in KERNELS
         if dtype is torch.float32 and operator("spectral_losses").kernels[backend].mixes]  # fmt: skip


@pytest.mark.parametrize("halves", [("prediction",), ("target",), ("prediction", "target")])
@pytest.mark.parametrize(("backend", "device"), MIXED)
def test_dtypes_may_differ(backend, device, halves) -> None:
    tensors, _ = arguments("spectral_losses", case_of("", (2, 5, 7, 9)))
    small = [dtype for dtype in (torch.bfloat16, torch.float16) if (backend, device, dtype) in KERNELS]
    dtypes = dict.fromkeys(tensors, torch.float32) | dict(zip(halves, itertools.cycle(small), strict=False))
    rounded = {name: tensor.to(device, dtypes[name]) for name, tensor in tensors.items()}
    exact = run("spectral_losses", cast(rounded, torch.float64), {}, "reference")
    eager = run("spectral_losses", rounded, {}, "reference")
    assert_as_good_as_eager(run("spectral_losses", rounded, {}, backend), eager, exact, policy_of(backend, device))


@every_kernel
def test_sums_do_not_overflow(backend, device, dtype) -> None:
    prediction = torch.full((1, 64, 16, 16), 30000.0, dtype=dtype, device=device).requires_grad_()
    losses = lkops.spectral_losses(prediction, torch.full_like(prediction, -20000.0), backend=backend)
    assert losses.l1.item() == pytest.approx(50000, rel=2e-3)  # bfloat16 has neither number
    assert losses.cosine.item() == pytest.approx(2)
    assert all(loss.isfinite() for loss in losses)
    sum(losses).backward()
    assert prediction.grad.isfinite().all()


@every_kernel
def test_pixels_without_a_direction(backend, device, dtype) -> None:
    target = torch.rand(1, 4, 1, 3, device=device).to(dtype)
    prediction = torch.tensor([0.0, 1e-7, 1.0], device=device).expand(1, 4, 1, 3).to(dtype).clone().requires_grad_()
    losses = lkops.spectral_losses(prediction[..., :2], target[..., :2], backend=backend)
    assert losses.sam.item() == pytest.approx(0.5)
    assert losses.cosine.item() == 1
    losses = lkops.spectral_losses(prediction, target, backend=backend)
    (losses.sam + losses.cosine).backward()
    assert not prediction.grad[..., :2].any()
    assert prediction.grad[..., 2].abs().max() > 0


@every_kernel
def test_equal_cubes(backend, device, dtype) -> None:
    x = torch.rand(1, 6, 9, 9, device=device).to(dtype).requires_grad_()
    losses = lkops.spectral_losses(x, x.detach().clone(), backend=backend)
    assert losses.l1.item() == losses.gradient.item() == 0
    assert losses.cosine.item() == pytest.approx(0, abs=1e-6)
    assert losses.sam.item() == pytest.approx(math.acos(1 - 1e-6) / math.pi, rel=0.02)  # a float32 near 1
    (losses.l1 + losses.gradient).backward()
    assert not x.grad.any()


# planes of several chunks of pixels (1024 forward, 4096 backward, or 8 rows), with a row below or less of it
LARGE = [(1, 6, 70, 67), (2, 35, 33, 15), (1, 5, 5, 3001), (1, 3, 3000, 3), (1, 33, 16, 16)]


@pytest.mark.skipif(bool(NO_CPU), reason=NO_CPU)
@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_planes_on_cpu(dtype, shape) -> None:
    check("spectral_losses", "cpu", "cpu", dtype, case_of("", shape))


@pytest.mark.skipif(bool(NO_CPU), reason=NO_CPU)
@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_for_any_threads_and_alignment_on_cpu(dtype, shape) -> None:
    tensors, _ = arguments("spectral_losses", case_of("", shape))
    rounded = cast(tensors, dtype)
    expected = run("spectral_losses", rounded, {}, "cpu")
    before = torch.get_num_threads()
    try:
        for threads, offset in ((1, 1), (2, 0), (3, 5)):
            torch.set_num_threads(threads)
            moved = {}
            for name, tensor in rounded.items():
                moved[name] = torch.empty(tensor.numel() + offset, dtype=dtype)[offset:].view(shape).copy_(tensor)
            leaves = [tensor.requires_grad_() for tensor in moved.values()]
            outputs = lkops.spectral_losses(*leaves, backend="cpu")
            torch.autograd.backward(outputs, grads_of(outputs))
            for i, output in enumerate(outputs):
                assert torch.equal(output, expected[f"output {i}"])
            for name, leaf in moved.items():
                assert torch.equal(leaf.grad, expected[f"gradient of {name}"])
    finally:
        torch.set_num_threads(before)


def grads_of(outputs):
    """What `run` gives to the outputs."""
    draw = Draw()
    return [draw(*output.shape).to(output.dtype) for output in outputs]


@pytest.mark.skipif(bool(NO_CPU), reason=NO_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_beyond_the_cache_on_cpu(dtype) -> None:
    """Gradients of 16 MiB and more are stored past the caches. A mean over 8 times as much is exactly an eighth."""
    shape = (8, 32, 128, 128) if dtype is torch.float32 else (8, 64, 128, 128)
    tensors, _ = arguments("spectral_losses", case_of("", shape))
    prediction, target = cast(tensors, dtype).values()
    weights = [torch.tensor(weight) for weight in (0.5, 0.3, 0.2, 0.7)]
    forward, backward = torch.ops.lkops.spectral_losses_cpu_fwd, torch.ops.lkops.spectral_losses_cpu_bwd
    spectra = forward(prediction, target, 0.5)[4]
    got, none = backward(*weights, prediction, target, spectra, 0.5, [True, False])
    assert none.shape == (0,)
    assert got.nbytes >= 2**24
    assert got.abs().max() > 0
    eighths = [weight / 8 for weight in weights]
    for n in range(8):
        one = (prediction[n : n + 1], target[n : n + 1])
        part = forward(*one, 0.5)[4]
        assert torch.equal(part, spectra[n : n + 1])
        assert torch.equal(backward(*eighths, *one, part, 0.5, [True, False])[0], got[n : n + 1])


@pytest.mark.skipif(bool(NO_CPU), reason=NO_CPU)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e25])
@pytest.mark.parametrize("name", ["prediction", "target"])
def test_not_finite_as_in_eager_on_cpu(name, value) -> None:
    """Also that what lies at the end of a row does not reach the next, which follows it in memory."""
    tensors, _ = arguments("spectral_losses", case_of("", (1, 5, 6, 7)))
    tensors = cast(tensors, torch.float32)
    tensors[name][0, 2, 3, 6] = value
    eager, ours = (run("spectral_losses", tensors, {}, backend) for backend in ("reference", "cpu"))
    for what, right in eager.items():
        torch.testing.assert_close(ours[what], right, equal_nan=True, msg=what)


CONFIGURATIONS = [
    (kernel, kind, i)
    for kernel in ("spectral_losses.sums", "spectral_losses.means", "spectral_losses.backward")
    for kind, entries in triton.table()[kernel].items()
    for i in range(len(entries))
]


@pytest.mark.wide(most=2)
@pytest.mark.skipif(not any(backend == "triton" for backend, _, _ in KERNELS), reason="no Triton kernel here")
@pytest.mark.parametrize(("kernel", "kind", "index"), CONFIGURATIONS)
def test_every_configuration(kernel, kind, index, monkeypatch) -> None:
    from lkops.ops.spectral_losses import triton_kernels

    def chosen(name: str, dtype: torch.dtype, work: int) -> dict[str, int]:
        if name != kernel:
            return triton.config(name, dtype, work)
        return {key: value for key, value in triton.table()[kernel][kind][index].items() if key != "up_to"}

    monkeypatch.setattr(triton_kernels, "config", chosen)
    dtype = torch.float32 if kind == "float32" else torch.float16
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for shape in ((1, 37, 5, 20), (1, 9, 5, 67)):
        check("spectral_losses", "triton", device, dtype, case_of("", shape))
