"""The references in every layout of their tensors: torch's own convs are not right in all of them."""

import pytest
import torch

from lkops.testing import arguments, cast, run
from tests.lkops.ops.harness import case_of
from tests.lkops.ops.test_contract import name_of, strided

SHAPE = (2, 24, 9, 33)
DILATED = {
    "depthwise_conv2d": {"dilation": 3, "side": 3},
    "conv2d": {"dilation": 3, "padding": 3},
    "large_kernel_channel_attention": {"dilations": (2, 3)},
    "lk_block": {"dilations": (2, 3)},
}


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=name_of)
@pytest.mark.parametrize("operator", DILATED)
def test_dilated_convs(operator, dtype, layout) -> None:
    """oneDNN's gradient of the weight is what was in memory, for bfloat16 in channels_last on CPUs with AVX-512."""
    tensors, options = arguments(operator, case_of(operator, SHAPE, DILATED[operator]))
    rounded = cast(tensors, dtype, "cpu")
    exact = run(operator, cast(rounded, torch.float64, "cpu"), options, "reference")
    views = {name: None if t is None else strided(t, layout) for name, t in rounded.items()}
    for what, value in run(operator, views, options, "reference").items():
        torch.testing.assert_close(
            value.double(), exact[what], rtol=0, atol=64 * torch.finfo(dtype).eps * float(exact[what].abs().max())
        )
