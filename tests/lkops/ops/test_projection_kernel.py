"""What the contract's cases leave out of norm_conv1x1_gelu: channels that differ by little and, of its Triton kernels,
configurations for more pixels and the residual that the block's backward passes."""

import pytest
import torch

from lkops.testing import Draw, arguments, assert_as_good_as_eager, cast, check, examples, policy_of, run
from tests.lkops.ops.harness import case_of, runs

RUNS = [r[2:] for r in runs(compiled_only=True) if r[:2] == ("norm_conv1x1_gelu", "triton")]
every_run = pytest.mark.parametrize(("device", "dtype"), RUNS, ids=str)


@pytest.mark.wide(most=1)
@every_run
@pytest.mark.parametrize("shape", [(2, 5, 33, 37), (1, 6, 91, 93)], ids=str)
def test_configurations_for_more_pixels(device, dtype, shape) -> None:
    check("norm_conv1x1_gelu", "triton", device, dtype, case_of("large", shape))


@every_run
@pytest.mark.parametrize("case", ["plain", "many_channels"])
def test_residual_is_added_to_the_gradient_of_x(device, dtype, case) -> None:
    from lkops.ops.norm_conv1x1_gelu import triton_kernels

    tensors, _ = arguments("norm_conv1x1_gelu", examples("norm_conv1x1_gelu")[case])
    rounded = cast(tensors, dtype, device)
    exact = run("norm_conv1x1_gelu", cast(rounded, torch.float64, "cpu"), {}, "reference")
    eager = run("norm_conv1x1_gelu", rounded, {}, "reference")["gradient of x"]
    grad = Draw()(*exact["output 0"].shape).to(device, dtype)
    residual = Draw()(*eager.shape, scale=float(eager.abs().max())).to(device, dtype)
    needs = (True, False, False, False, False)
    dx, *rest = triton_kernels.backward(grad, *rounded.values(), 1e-6, needs, residual=residual)
    assert not any(gradient.numel() for gradient in rest)
    right = exact["gradient of x"] + residual.cpu().double()
    assert_as_good_as_eager(dx, eager + residual, right, policy_of("triton", device))


@pytest.mark.parametrize(
    ("backend", "device"),
    [r[1:3] for r in runs(compiled_only=True) if r[0] == "norm_conv1x1_gelu" and r[3] is torch.float32],
)
@pytest.mark.parametrize("channels", [2, 3])
def test_channels_that_differ_by_little(backend, device, channels) -> None:
    """The rounding of their mean is many of the differences to it, which the gradient of x hangs on."""
    tensors, _ = arguments("norm_conv1x1_gelu", case_of("alike", (2, channels, 8, 7)))
    tensors["x"] = 1.5 + 0.05 * tensors["x"]
    rounded = cast(tensors, torch.float32, device)
    exact = run("norm_conv1x1_gelu", cast(rounded, torch.float64, "cpu"), {}, "reference")
    eager, ours = (run("norm_conv1x1_gelu", rounded, {}, how) for how in ("reference", backend))
    assert_as_good_as_eager(ours, eager, exact, policy_of(backend, device))
