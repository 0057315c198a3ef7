"""No sample, channel, pixel, scale, kernel or option is treated unlike the others: a kernel that is wrong for one of
them (a loop that ends early, a constant in the place of an option, a case of a switch) fails here.

The gradient of the output is zero but in the last sample, channel or pixel, so that what is left out is all there is.
"""

import pytest
import torch

from lkops.testing import Draw, arguments
from tests.lkops.ops.drawing import Drawn, check_drawn, results
from tests.lkops.ops.harness import case_of, runs

KERNELS = [
    (operator, backend)
    for operator, backend, device, dtype in runs(compiled_only=True, every_dtype=False)
    if device == "cpu" and dtype is torch.float32
]
CPU = [operator for operator, backend in KERNELS if backend == "cpu"]
# options that small and odd shapes need: one group, the kernels of the attention small
FITTING = {
    "upsample_add": {"scale": 2, "bands": 2},
    "bicubic_upsample": {"scale": 2},
    "large_kernel_channel_attention": {"groups": 1, "kernels": (3, 3), "dilations": (1, 2)},
    "lk_block": {"groups": 1, "kernels": (3, 3), "dilations": (1, 2)},
}


def problem(operator: str, shape: tuple[int, ...], where: str = "all", **options) -> Drawn:
    """All of its tensors dense, the gradients of all asked for."""
    case = case_of("", shape, {**FITTING.get(operator, {}), **options})  # type: ignore[arg-type]
    tensors, options = arguments(operator, case)
    if "reduce_bias" in tensors:  # away from the kink of ReLU
        tensors["reduce_bias"] = tensors["reduce_bias"].sign() * (3 + tensors["reduce_bias"].abs())
    layouts = dict.fromkeys((*tensors, "grad"), "dense")
    return Drawn(f"{shape}", tensors, options, layouts, tuple(tensors), where)


def check(operator: str, backend: str, drawn: Drawn) -> None:
    try:
        check_drawn(operator, backend, torch.float32, drawn)
    except AssertionError as error:
        raise AssertionError(f"{drawn}: {error}") from None


@pytest.mark.wide(most=3)
@pytest.mark.parametrize("operator", CPU)
def test_samples(operator) -> None:
    for batch in (*range(2, 21), 31, 32, 33, 64, 65):
        for where in ("all", "last sample"):
            check(operator, "cpu", problem(operator, (batch, 3, 2, 3), where))


@pytest.mark.wide(most=3)
@pytest.mark.parametrize("operator", CPU)
def test_channels(operator) -> None:
    for channels in (*range(2, 18), 24, 31, 32, 33, 48, 63, 64, 65, 96, 97, 128, 129, 192, 255, 256, 257):
        check(operator, "cpu", problem(operator, (1, channels, 2, 3), "last channel"))
        check(operator, "cpu", problem(operator, (2, channels, 1, 2)))


@pytest.mark.wide(most=3)
@pytest.mark.parametrize("operator", CPU)
def test_pixels(operator) -> None:
    sides = [(1, width) for width in range(1, 35)] + [(height, 2) for height in range(2, 20)]
    for height, width in (*sides, (1, 301), (257, 1), (33, 47), (64, 64), (70, 65), (48, 130)):
        for where in ("all", "one pixel"):
            check(operator, "cpu", problem(operator, (1, 6, height, width), where))


# what a program of Triton sums over is a block: shapes beyond one or two
@pytest.mark.wide(most=6)
@pytest.mark.parametrize("operator", [operator for operator, backend in KERNELS if backend == "triton"])
@pytest.mark.parametrize(
    ("shape", "where"),
    [
        ((7, 2, 2, 2), "last sample"),
        ((17, 1, 1, 2), "last sample"),
        ((1, 17, 1, 2), "last channel"),
        ((1, 2, 9, 8), "one pixel"),
    ],
)
def test_parts_of_a_problem_in_triton(operator, shape, where) -> None:
    if operator in ("spectral_losses", "norm_conv1x1_gelu", "lk_block"):
        shape = (shape[0], shape[1] + 4, *shape[2:])  # parallel spectra, no variance: few numbers have no result
    check(operator, "triton", problem(operator, shape, where))


SCALED = ("bicubic_upsample", "upsample_add")


@pytest.mark.parametrize("border", ["symmetric", "replicate"])
@pytest.mark.parametrize(("operator", "backend"), [k for k in KERNELS if k[0] in SCALED])
def test_scales(operator, backend, border) -> None:
    for scale in range(1, 13) if backend == "cpu" else (1, 2, 3, 4, 5, 6, 7, 8, 9):
        for shape in ((2, 1, 3, 5), (1, 1, 1, 2), (1, 1, 9, 4)) if backend == "cpu" else ((1, 1, 1, 2),):
            small = {} if operator == "bicubic_upsample" else {"bands": 1, "side": 1}
            check(operator, backend, problem(operator, shape, scale=scale, border=border, cubic_a=-0.6, **small))


@pytest.mark.parametrize("border", ["replicate", "symmetric"])
def test_scales_of_the_reference(border) -> None:
    """Against torch's interpolation, which repeats the edge; beyond the reach of the edge the border does not count."""
    for scale in range(1, 13):
        x = Draw(scale)(1, 1, 9, 10).requires_grad_()
        ours = results("bicubic_upsample", problem_of(x, scale, border), {"x": torch.float64}, "reference")
        right = torch.nn.functional.interpolate(x, scale_factor=float(scale), mode="bicubic")
        right.backward(Draw()(*right.shape) + 1)
        for got, expected, inner in (
            (ours["output 0"], right.detach(), 2 * scale),
            (ours["gradient of x"], x.grad, 4),
        ):
            keep = slice(None) if border == "replicate" else slice(inner, -inner)
            torch.testing.assert_close(got[..., keep, keep], expected[..., keep, keep], rtol=0, atol=1e-11)


def problem_of(x: torch.Tensor, scale: int, border: str) -> Drawn:
    options = {"scale": scale, "border": border, "cubic_a": -0.75}
    return Drawn("", {"x": x.detach()}, options, {"x": "dense", "grad": "dense"}, ("x",), "all")


def with_kernels(operator: str, sides: tuple[int, int], shape: tuple[int, ...], **options) -> Drawn:
    """With kernels of these sides, rows and columns, in the place of square ones."""
    drawn, draw = problem(operator, shape, **options), Draw(2)
    for name, tensor in drawn.tensors.items():
        if name in ("dw1_weight", "dw2_weight") or (name == "weight" and operator != "norm_conv1x1_gelu"):
            across = sides if name != "dw2_weight" else sides[::-1]
            count = tensor.shape[1] * sides[0] * sides[1]
            drawn.tensors[name] = draw(*tensor.shape[:2], *across, scale=count**-0.5)
    return drawn


CONVS = ("depthwise_conv2d", "large_kernel_channel_attention", "lk_block", "upsample_add", "conv2d")
ODD = (1, 3, 5, 7, 9, 11, 13)


@pytest.mark.parametrize(("operator", "backend"), [k for k in KERNELS if k[0] in CONVS])
def test_kernels(operator, backend) -> None:
    """All pairs of odd sides; of Triton's, those of which each side is once."""
    every = [(rows, columns) for rows in ODD for columns in ODD]
    for sides in every if backend == "cpu" else ((1, 3), (3, 1), (5, 3), (1, 7)):
        check(operator, backend, with_kernels(operator, sides, (1, 2, 8, 19) if backend == "cpu" else (1, 1, 4, 4)))


@pytest.mark.parametrize(("operator", "backend"), [k for k in KERNELS if k[0] in CONVS[:3]])
def test_dilations(operator, backend) -> None:
    for dilation in (1, 2, 3, 4, 5, 6, 7, 8, 9, 20) if backend == "cpu" else (2, 4, 6):
        options = {"dilation": dilation} if operator == "depthwise_conv2d" else {"dilations": (dilation, dilation + 1)}
        check(operator, backend, problem(operator, (1, 2, 19, 18) if backend == "cpu" else (1, 1, 7, 8), **options))


@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize(("operator", "backend"), [k for k in KERNELS if k[0] in CONVS[1:3]])
def test_groups(operator, backend, interleave) -> None:
    for groups, channels in (
        ((1, 6), (2, 6), (3, 6), (6, 6), (4, 20), (8, 40)) if backend == "cpu" else ((1, 2), (2, 4))
    ):
        check(operator, backend, problem(operator, (2, channels, 3, 3), groups=groups, interleave=interleave))


NORMED = ("norm_conv1x1_gelu", "lk_block")


@pytest.mark.parametrize("eps", [1e-8, 1e-6, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize(("operator", "backend"), [k for k in KERNELS if k[0] in NORMED])
def test_eps(operator, backend, eps) -> None:
    """Beside variances of its own size, so that another eps gives another result, and other gradients."""
    drawn, other = (problem(operator, (2, 6, 3, 2), eps=value) for value in (eps, 2 * eps))
    for each in (drawn, other):
        each.tensors["x"] = each.tensors["x"] * (eps / 4) ** 0.5
    check(operator, backend, drawn)
    single = dict.fromkeys(drawn.tensors, torch.float64)
    ours, others = (results(operator, each, single, "reference") for each in (drawn, other))
    for what in ("gradient of x", "gradient of norm_weight"):
        assert (ours[what] - others[what]).abs().max() > 1e-3 * ours[what].abs().max(), what


@pytest.mark.parametrize("cubic_a", [-1, -0.75, -0.5, 0.0, 0.5])
@pytest.mark.parametrize(("operator", "backend"), [k for k in KERNELS if k[0] in SCALED])
def test_cubic_a(operator, backend, cubic_a) -> None:
    small = {} if operator == "bicubic_upsample" else {"bands": 1, "side": 1}
    check(operator, backend, problem(operator, (1, 1, 3, 2), scale=3, cubic_a=cubic_a, **small))
