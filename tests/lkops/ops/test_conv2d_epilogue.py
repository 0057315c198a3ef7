"""What stands behind cuDNN's conv in the Triton backend of `conv2d`: launches, tiles, and cuDNN's settings."""

import pytest
import torch

from lkops import testing
from lkops.ops.conv2d.values import ACTIVATIONS
from lkops.testing import Draw, as_tuple
from lkops.triton import Launch, interpreted, override, watch

pytestmark = pytest.mark.skipif(not interpreted(), reason="Triton's kernels run on CPU tensors in its interpreter only")


def tensors(**without: None) -> testing.Arguments:
    draw = Draw()
    drawn = {"input": draw(2, 3, 9, 14), "weight": draw.conv(5, 3, 3), "bias": draw(5), "residual": draw(2, 5, 9, 14)}
    return testing.cast({**drawn, **without}, torch.float32)


def names(launches: list[Launch]) -> list[str]:
    return [launch.kernel.__name__ for launch in launches]


def test_one_launch_does_all_behind_the_conv() -> None:
    launches: list[Launch] = []
    options = {"activation": "relu", "residual_scale": 0.5}
    with watch(launches.append):
        testing.run("conv2d", tensors(), options, "triton")
    assert names(launches) == ["epilogue_kernel", "epilogue_backward_kernel", "sum_of_partials_kernel"]


def test_a_conv_alone_launches_nothing() -> None:
    launches: list[Launch] = []
    with watch(launches.append):
        found = testing.run("conv2d", tensors(bias=None, residual=None), {}, "triton")
    assert not launches
    assert found["gradient of weight"].abs().max() > 0


# 126 pixels in tiles of 32: the last is a part of one
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS[1:]])
def test_sums_of_several_tiles(activation) -> None:
    given = tensors()
    if activation == "prelu":
        given["prelu_weight"] = Draw(1)(5).float()
    options = {"activation": activation, "residual_scale": -0.75, "slope": 0.3}
    with override({"conv2d.planes": {"TILE": 32, "BLOCK": 16}}):
        testing.compare("conv2d", "triton", "cpu", torch.float32, given, options)


def test_derivatives_at_zero_and_nan_are_those_of_torch() -> None:
    for activation in ("relu", "leaky_relu", "gelu", "silu", "sigmoid"):
        image = torch.tensor([0.0, -0.0, float("nan"), 1.0, -1.0]).reshape(1, 1, 1, 5)
        one, options = torch.ones(1, 1, 1, 1), {"activation": activation}
        for backend in ("triton", "reference"):
            x = image.clone().requires_grad_()
            (y,) = as_tuple(testing.invoke("conv2d", {"input": x, "weight": one}, options, backend))
            y.sum().backward()
            if backend == "triton":
                ours = (y.detach(), x.grad)
            else:
                torch.testing.assert_close(ours, (y.detach(), x.grad), equal_nan=True)


def test_cudnn_is_deterministic_in_backward_and_as_before_behind_it(monkeypatch) -> None:
    seen: list[bool] = []
    plain = torch.ops.aten.convolution_backward

    def spy(*arguments: object) -> object:
        seen.append(torch.backends.cudnn.deterministic)
        return plain(*arguments)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", spy)
    for before in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", before)
        testing.run("conv2d", tensors(), {}, "triton")
        assert torch.backends.cudnn.deterministic is before
    assert seen == [True, True]
