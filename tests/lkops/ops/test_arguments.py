"""Arguments that do not fit raise, naming the argument, what it is and what was expected."""

import pytest
import torch

import lkops
from lkops import backends, testing
from lkops.testing import arguments, cast, examples
from tests.lkops.ops.harness import OPERATORS

Z = torch.zeros


def call(operator: str, changes: dict, drop: tuple[str, ...] = ()):
    tensors, options = arguments(operator, examples(operator)["plain"])
    everything = {**cast(tensors, torch.float32), **options, **changes}
    return getattr(lkops, operator)(**{k: v for k, v in everything.items() if k not in drop})


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (Z(2, 8, 8), ValueError, r"{} must be \(N, C, H, W\), got shape \(2, 8, 8\)"),
        (Z(2, 8, 8, 8, dtype=torch.int64), TypeError, r"{} must be floating, got torch.int64"),
        (Z(2, 8, 0, 8), ValueError, r"{} must have at least one channel, row and column, got shape \(2, 8, 0, 8\)"),
        ([[1.0]], TypeError, "{} must be a tensor, got list"),
    ],
    ids=["dims", "integers", "no_rows", "list"],
)
def test_the_image(operator, value, error, message) -> None:
    name = testing.operator(operator).tensors[0]
    with pytest.raises(error, match=message.format(name)):
        call(operator, {name: value})


# operator, changed arguments, error, what the message says
WRONG = [
    ("conv2d", {"weight": None}, TypeError, "weight must be a tensor, got NoneType"),
    ("conv2d", {"weight": Z(5, 8, 3)}, ValueError, r"weight must be \(outputs, inputs / groups, rows, columns\), got"),
    ("conv2d", {"weight": Z(5, 7, 3, 3)}, ValueError, r"weight must have shape \(5, 8, 3, 3\), got \(5, 7, 3, 3\)"),
    (
        "conv2d",
        {"weight": Z(5, 8, 2, 3)},
        ValueError,
        "padding must be numbers or 'valid' for an even kernel, got 2 x 3",
    ),
    ("conv2d", {"padding": (0, -1)}, ValueError, "padding must be a whole number, 0 or more, got -1"),
    ("conv2d", {"padding": "full"}, ValueError, "padding must be 'same', 'valid', or one or two whole .*, got 'full'"),
    (
        "conv2d",
        {"padding": "valid", "dilation": 4},
        ValueError,
        r"weight must have a kernel that fits into the padded input: it reaches over 9 x 9 pixels, and input has 8 x 8",
    ),
    ("conv2d", {"groups": 3}, ValueError, "groups must divide the 8 channels of input and the 5 of weight, got 3"),
    ("conv2d", {"bias": Z(8)}, ValueError, r"bias must have shape \(5,\), got \(8,\)"),
    ("conv2d", {"residual": Z(2, 8, 8, 8)}, ValueError, r"residual must have shape \(2, 5, 8, 8\), got \(2, 8, 8, 8\)"),
    ("conv2d", {"stride": 2}, ValueError, r"residual must have shape \(2, 5, 4, 4\), got \(2, 5, 8, 8\)"),
    (
        "conv2d",
        {"activation": "prelu"},
        ValueError,
        "prelu_weight must be given for activation 'prelu' and for no other",
    ),
    ("conv2d", {"prelu_weight": Z(5)}, ValueError, "prelu_weight must be given for .* for no other, got 'none'"),
    (
        "conv2d",
        {"activation": "prelu", "prelu_weight": Z(2)},
        ValueError,
        r"prelu_weight must have shape \(5,\), got \(2,\)",
    ),
    ("conv2d", {"activation": "mish"}, ValueError, "activation must be None or one of relu, .*sigmoid; got 'mish'"),
    ("depthwise_conv2d", {"weight": None}, TypeError, "weight must be a tensor, got NoneType"),
    ("channel_attention", {"expand_weight": None}, TypeError, "expand_weight must be a tensor, got NoneType"),
    ("norm_conv1x1_gelu", {"norm_weight": None}, TypeError, "norm_weight must be a tensor, got NoneType"),
    ("norm_conv1x1_gelu", {"norm_bias": None}, TypeError, "norm_bias must be a tensor, got NoneType"),
    ("norm_conv1x1_gelu", {"eps": None}, TypeError, "eps must be a number above 0, got None"),
    ("lk_block", {"dilations": 5}, TypeError, "dilations must be two whole numbers, got 5"),
    ("bicubic_upsample", {"backend": 5}, TypeError, "backend must be a name or a sequence of names, got 5"),
    ("bicubic_upsample", {"backend": [5]}, TypeError, r"backend must be a name or a sequence of names, got \[5\]"),
    ("bicubic_upsample", {"scale": 0}, ValueError, "scale must be a whole number, 1 or more, got 0"),
    ("bicubic_upsample", {"scale": 2.5}, TypeError, r"scale must be a whole number, 1 or more, got 2\.5"),
    ("bicubic_upsample", {"border": "wrap"}, ValueError, "border must be 'symmetric' or 'replicate', got 'wrap'"),
    ("depthwise_conv2d", {"weight": Z(8, 1, 4, 5)}, ValueError, "weight must have an odd kernel, got 4 x 5"),
    (
        "depthwise_conv2d",
        {"weight": Z(8, 2, 5, 5)},
        ValueError,
        r"weight must have shape \(8, 1, 5, 5\), got \(8, 2, 5",
    ),
    (
        "depthwise_conv2d",
        {"weight": Z(9, 1, 5, 5)},
        ValueError,
        r"weight must have shape \(8, 1, 5, 5\), got \(9, 1, 5",
    ),
    ("depthwise_conv2d", {"bias": Z(9)}, ValueError, r"bias must have shape \(8,\), got \(9,\)"),
    ("depthwise_conv2d", {"bias": Z(8).double()}, TypeError, "bias must be torch.float32 as x is, got torch.float64"),
    ("depthwise_conv2d", {"dilation": 0}, ValueError, "dilation must be a whole number, 1 or more, got 0"),
    (
        "channel_attention",
        {"reduce_weight": Z(4, 9, 1, 1)},
        ValueError,
        r"reduce_weight must have shape \(4, 8, 1, 1\)",
    ),
    (
        "channel_attention",
        {"expand_weight": Z(8, 5, 1, 1)},
        ValueError,
        r"expand_weight must have shape \(8, 4, 1, 1\)",
    ),
    ("channel_attention", {"expand_bias": Z(7)}, ValueError, r"expand_bias must have shape \(8,\)"),
    (
        "large_kernel_channel_attention",
        {"dw2_weight": Z(8, 1, 6, 6)},
        ValueError,
        "dw2_weight must have an odd kernel, got 6 x 6",
    ),
    (
        "large_kernel_channel_attention",
        {"reduce_weight": Z(4, 8, 1, 1)},
        ValueError,
        r"reduce_weight must have shape \(4, 24, 1, 1\)",
    ),
    (
        "large_kernel_channel_attention",
        {"mix_weight": Z(8, 5, 1, 1)},
        ValueError,
        r"mix_weight of shape \(8, 5, 1, 1\) does not fit 24 input channels",
    ),
    (
        "large_kernel_channel_attention",
        {"dilations": (5,)},
        ValueError,
        r"dilations must be two whole numbers, got \(5,",
    ),
    (
        "large_kernel_channel_attention",
        {"dilations": (5, 0)},
        ValueError,
        "dilations must be a whole number, 1 or more",
    ),
    (
        "large_kernel_channel_attention",
        {"interleave": True, "mix_weight": Z(8, 1, 1, 1)},
        ValueError,
        "mix_weight of shape",
    ),
    ("norm_conv1x1_gelu", {"norm_weight": Z(7)}, ValueError, r"norm_weight must have shape \(8,\), got \(7,\)"),
    ("norm_conv1x1_gelu", {"weight": Z(11, 8, 3, 3)}, ValueError, r"weight must have shape \(11, 8, 1, 1\)"),
    ("norm_conv1x1_gelu", {"eps": 0.0}, ValueError, r"eps must be a number above 0, got 0\.0"),
    ("lk_block", {"in_weight": Z(8, 7, 1, 1)}, ValueError, r"in_weight must have shape \(8, 8, 1, 1\)"),
    ("lk_block", {"out_weight": Z(8, 9, 1, 1)}, ValueError, r"out_weight must have shape \(8, 8, 1, 1\)"),
    ("lk_block", {"keep": Z(3)}, ValueError, r"keep must have shape \(2,\), got \(3,\)"),
    ("lk_block", {"dw1_bias": Z(8, device="meta")}, ValueError, "dw1_bias must be on cpu as x is, got meta"),
    (
        "spectral_losses",
        {"target": Z(2, 8, 8, 7)},
        ValueError,
        r"target must have the shape of prediction, \(2, 8, 8, 8\), got \(2, 8, 8, 7\)",
    ),
    ("upsample_add", {"scale": 5}, ValueError, r"weight must have a multiple of scale\^2 = 25 outputs, got 12"),
    ("upsample_add", {"weight": Z(12, 5, 3, 3)}, ValueError, r"weight of shape \(12, 5, 3, 3\) does not fit 8 input"),
    (
        "upsample_add",
        {"lowres": Z(2, 3, 8, 9)},
        ValueError,
        r"lowres must have shape \(2, 3, 8, 8\), got \(2, 3, 8, 9\)",
    ),
    ("upsample_add", {"weight": Z(12, 8, 3, 3).half()}, TypeError, "weight must be torch.float32 as features is"),
]


@pytest.mark.parametrize(("operator", "changes", "error", "message"), WRONG)
def test_arguments_that_do_not_fit(operator, changes, error, message) -> None:
    with pytest.raises(error, match=message):
        call(operator, changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": torch.ones(8, 1, 5, 5, dtype=torch.int64)}, r"weight must be torch\.bfloat16 .* got torch\.int64"),
        ({"bias": torch.ones(8, dtype=torch.bool)}, r"bias must be torch\.bfloat16 as x is, got torch\.bool"),
        ({"weight": [1.0]}, "weight must be a tensor, got list"),
    ],
)
def test_autocast_hides_no_argument_that_does_not_fit(changes, message) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(TypeError, match=message):
        call("depthwise_conv2d", changes)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_backend_that_does_not_exist(operator) -> None:
    with pytest.raises(ValueError, match=f"backend names 'gpu'; expected one or more of {', '.join(backends.NAMES)}"):
        call(operator, {"backend": "gpu"})
