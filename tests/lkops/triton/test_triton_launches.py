"""How many kernels the Triton backend launches: what small images pay for. Nothing runs: tensors are on "meta"."""

from collections.abc import Sequence

import pytest

import lkops.triton

pytest.importorskip("triton")

from bench.launchers import Call, kernels
from lkops.testing import examples


def launches(operator: str, only: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Names of the kernels of forward and of backward for a 16 x 16 image; with gradients of what trains, or of the
    tensors named in `only`."""
    call = Call(operator, examples(operator)["patch_16_keep" if operator == "lk_block" else "patch_16"])
    run = kernels(call, "float32")
    names: tuple[list[str], list[str]] = ([], [])
    with lkops.triton.watch(lambda launch: names[0].append(launch.kernel.__name__), run=False):
        run.forward()
    needs = run.trained if only is None else [name in only for name in call.tensors()]
    with lkops.triton.watch(lambda launch: names[1].append(launch.kernel.__name__), run=False):
        run.backward(needs)
    return names


@pytest.mark.parametrize(
    ("operator", "forward", "backward"),
    [
        ("bicubic_upsample", 1, 1),
        ("depthwise_conv2d", 1, 3),
        ("channel_attention", 2, 4),
        ("large_kernel_channel_attention", 2, 8),
        ("norm_conv1x1_gelu", 1, 3),
        ("lk_block", 3, 14),  # projection; both depthwise convs; what follows the pooling
        ("spectral_losses", 2, 1),
        ("upsample_add", 1, 4),
    ],
)
def test_launches_of_a_small_image(operator, forward, backward) -> None:
    names = launches(operator)
    assert len(names[0]) == forward, names[0]
    assert len(names[1]) <= backward, names[1]


def test_frozen_parameters_cost_no_launch() -> None:
    frozen = launches("lk_block", only=["x"])[1]
    assert len(frozen) < len(launches("lk_block")[1])
    assert not any("weight" in name or "parameters" in name for name in frozen)
