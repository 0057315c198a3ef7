"""Dilated convs in every layout of their tensors: torch's own are not right in all of them, the references must be."""

import pytest
import torch

from lkops.testing import arguments, cast, run
from tests.lkops.ops.harness import case_of, runs
from tests.lkops.ops.test_contract import name_of, strided

SHAPE = (2, 24, 9, 33)
DILATED = {
    "depthwise_conv2d": {"dilation": 3, "side": 3},
    "conv2d": {"dilation": 3, "padding": 3},
    "large_kernel_channel_attention": {"dilations": (2, 3)},
    "lk_block": {"dilations": (2, 3)},
}
RUNS = [found for found in runs() if found[0] in DILATED and found[1] in ("reference", "cpu") and found[2] == "cpu"]


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced"])
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), RUNS, ids=name_of)
def test_values_and_gradients(operator, backend, device, dtype, layout) -> None:
    """oneDNN's gradient of the weight is what was in memory, for bfloat16 in channels_last on CPUs with AVX-512."""
    tensors, options = arguments(operator, case_of(operator, SHAPE, DILATED[operator]))
    rounded = cast(tensors, dtype, device)
    exact = run(operator, cast(rounded, torch.float64, "cpu"), options, "reference")
    views = {name: None if t is None else strided(t, layout) for name, t in rounded.items()}
    for what, value in run(operator, views, options, backend).items():
        torch.testing.assert_close(
            value.double(), exact[what], rtol=0, atol=64 * torch.finfo(dtype).eps * float(exact[what].abs().max())
        )
