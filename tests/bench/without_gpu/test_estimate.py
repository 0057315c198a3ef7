"""The static estimate: what is counted, and that the committed figures are what the code gives."""

import json

import pytest
import torch

import lkops
from bench.cpu.run import RESULTS
from bench.without_gpu import work
from bench.without_gpu.estimate import estimate, markdown
from bench.without_gpu.traffic import count

META = torch.device("meta")


def test_ops_move_their_inputs_and_outputs_and_views_nothing() -> None:
    x, row = torch.empty(6, 5, device=META), torch.empty(5, device=META)
    traffic = count(lambda: (x.t()[1:].reshape(-1, 2) * 2, x + row.expand(6, 5)))
    assert traffic.ops == {"clone": 1, "mul": 1, "add": 1}
    assert traffic.bytes == 4 * (2 * 24 + 2 * 24 + 30 + 5 + 30)
    assert traffic.launches == 3
    assert count(lambda: x.add_(1)).bytes == 4 * 60
    assert count(lambda: torch._foreach_add_([x, x + 1], 1)).bytes == 4 * (60 + 4 * 30)
    with torch.inference_mode():
        conv = torch.nn.Conv2d(3, 3, 1, device=META)
        assert count(lambda: conv(torch.empty(1, 3, 4, 4, device=META))).ops == {"convolution": 1}


def test_triton_launches_are_counted_with_their_tensors() -> None:
    n, c, r, plane, f = 2, 8, 4, 36, 4
    x = torch.empty(n, c, 6, 6, device=META, requires_grad=True)
    gate = [torch.empty(s, device=META) for s in ((r, c, 1, 1), (r,), (c, r, 1, 1), (c,))]
    traffic = count(lambda: lkops.channel_attention(x, *gate))
    assert traffic.kernels == {"channel_attention.sums": 1, "channel_attention.scale": 1}
    assert not traffic.ops
    parameters, sums = 2 * c * r + c + r, n * c
    assert traffic.bytes == f * ((n * c * plane + sums) + (2 * n * c * plane + 2 * sums + parameters))
    assert lkops.backends.choose("channel_attention", None, [x]) == "reference"  # as before, outside


def test_the_least_by_hand() -> None:
    assert work.losses(2, 3, 4, 5, 4).bytes == 5 * 4 * 120
    forward = work.of("large_kernel_channel_attention", 1, 16, 8, 8, 4, {"hidden": 3})
    weights = 16 * (25 + 49 + 3) + 2 * 48 * 3 + 3 + 48 + 3 * 16 * 16 // 4
    assert forward.bytes == 4 * (2 * 16 * 64 + weights)
    assert work.with_backward(forward, 4 * 16 * 64).bytes == 4 * (5 * 16 * 64 + 3 * weights)
    up = work.of("upsample_add", 1, 16, 8, 8, 2, {"bands": 8, "groups": 8}, scale=4)
    assert up.bytes == 2 * 1024 + 4 * (512 + 8192 + 128 * 18 + 128)


@pytest.mark.parametrize("side", [16, 128])
def test_products_are_those_of_the_network(side) -> None:
    """`LKCANet.macs`, which counts as fvcore does: products of the depthwise convs with the padding's zeros too, and
    without the bicubic image and the norms that are counted here."""
    from lkcanet.models import lkca_lr

    model = lkca_lr(128, 4, weight_norm=False)
    ours = work.network(1, side, side, 4, bands=128, channels=128, blocks=16, scale=4)
    bicubic = 20 * 128 * side * side * 16 // 4
    norms = 16 * 10 * 128 * side * side
    inside = [sum(side - abs(tap) * k for tap in range(-(k // 2), k // 2 + 1) if abs(tap) * k < side) for k in (5, 7)]
    zeros = 16 * 128 * sum((side * k) ** 2 - pairs**2 for k, pairs in zip((5, 7), inside, strict=True))
    assert ours.matrix + ours.vector - bicubic - norms + zeros == model.macs(side, side)


@pytest.mark.exhaustive
def test_the_committed_estimate_is_what_the_code_gives() -> None:
    committed = json.loads((RESULTS / "gpu_estimate.json").read_text())
    if committed["torch"] != torch.__version__.partition("+")[0]:
        pytest.skip(f"counted with torch {committed['torch']}, whose ops may differ from {torch.__version__}'s")
    again = estimate()
    assert json.loads(json.dumps(again)) == committed, "run `python -m bench.without_gpu.estimate` and commit its files"
    assert (RESULTS / "gpu_estimate.md").read_text() == markdown(again)
    assert "Estimate, not measured" in markdown(again)
    page = (RESULTS.parents[1] / "docs" / "gpu.md").read_text()
    for name, part in committed["block"].items():
        assert f"| {name} | {part['launches']} | {sum(part['triton'].values())} |" in page
    for row in committed["rows"]:
        assert row["eager"]["bytes"] > row["least_bytes"] > 0
        assert row["lkops"]["bytes"] >= row["least_bytes"]
