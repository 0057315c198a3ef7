"""Each reference against an independent statement of the same operator, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

import lkops
from lkops.testing import Draw, arguments
from tests.lkops.ops.harness import case_of


def problem(operator: str, *shape: int, **options):
    return arguments(operator, case_of("", shape, options))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert a.abs().max() > 0


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (1, 1, 1, 1), (1, 2, 1, 5), (1, 2, 2, 3)])
def test_bicubic_is_torchs_with_its_parameter_and_border(scale, shape) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    ours = lkops.bicubic_upsample(x, scale=scale, cubic_a=-0.75, border="replicate", backend="reference")
    close(ours, F.interpolate(x, scale_factor=scale, mode="bicubic", align_corners=False))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_bicubic_is_matlabs_by_default(scale) -> None:
    """torch's antialiased bicubic has a = -0.5; on a mirrored image, cropped, its border is MATLAB's too."""
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    rows = torch.cat((x.flip(2), x, x.flip(2)), 2)
    mirrored = torch.cat((rows.flip(3), rows, rows.flip(3)), 3)
    enlarged = F.interpolate(mirrored, scale_factor=scale, mode="bicubic", antialias=True)
    expected = enlarged[:, :, 9 * scale : 18 * scale, 8 * scale : 16 * scale]
    close(lkops.bicubic_upsample(x, scale=scale, backend="reference"), expected)


def test_bicubic_mirrors_tiny_images_again_and_again() -> None:
    x = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64)
    long = torch.tensor([[[[1.0, 3.0, 3.0, 1.0] * 4]]], dtype=torch.float64)  # what lies left and right of it
    expected = lkops.bicubic_upsample(long, scale=3, backend="reference")[..., 24:30]
    close(lkops.bicubic_upsample(x, scale=3, backend="reference")[:, :, :1], expected[:, :, :1])


def test_bicubic_keeps_constants_and_lines() -> None:
    line = torch.arange(9, dtype=torch.float64).expand(1, 1, 5, 9)
    up = lkops.bicubic_upsample(line, scale=4, backend="reference")
    centres = (torch.arange(36, dtype=torch.float64) + 0.5) / 4 - 0.5
    close(up[0, 0, 0, 8:-8], centres[8:-8])
    close(lkops.bicubic_upsample(torch.ones(1, 1, 3, 2).double(), scale=5), torch.ones(1, 1, 15, 10).double())


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (None, lambda y: y),
        ("relu", lambda y: y.clamp(min=0)),
        ("leaky_relu", lambda y: torch.where(y > 0, y, 0.2 * y)),
        ("prelu", lambda y: torch.where(y > 0, y, torch.linspace(-1, 1, 4).double()[:, None, None] * y)),
        ("gelu", lambda y: y * (1 + torch.erf(y / math.sqrt(2))) / 2),
        ("silu", lambda y: y / (1 + torch.exp(-y))),
        ("sigmoid", lambda y: 1 / (1 + torch.exp(-y))),
    ],
)
def test_conv_by_hand(activation, function) -> None:
    draw = Draw()
    x, weight, bias, residual = draw(2, 6, 9, 11), draw(4, 3, 3, 2), draw(4), draw(2, 4, 5, 16)
    padded = F.pad(x, (4, 4, 2, 2))
    expected = torch.zeros(2, 4, 5, 16, dtype=torch.float64)
    for output in range(4):
        for channel in range(3):
            for i in range(3):
                for j in range(2):
                    source = padded[:, output // 2 * 3 + channel, 2 * i : 2 * i + 9 : 2, 3 * j : 3 * j + 16]
                    expected[:, output] += weight[output, channel, i, j] * source
    expected = residual + 0.5 * function(expected + bias[:, None, None])
    slopes = torch.linspace(-1, 1, 4).double() if activation == "prelu" else None
    ours = lkops.conv2d(
        *(x, weight, bias),
        stride=(2, 1),
        padding=(2, 4),
        dilation=(2, 3),
        groups=2,
        activation=activation,
        slope=0.2,
        prelu_weight=slopes,
        residual=residual,
        residual_scale=0.5,
    )
    close(ours, expected)


def test_depthwise_conv_by_hand() -> None:
    tensors, options = problem("depthwise_conv2d", 1, 2, 6, 7, dilation=2)
    x, weight, bias = tensors.values()
    padded = F.pad(x, (4, 4, 4, 4))
    expected = bias[None, :, None, None].expand(1, 2, 6, 7).clone()
    for p in range(5):
        for q in range(5):
            expected += weight[:, 0, p, q][None, :, None, None] * padded[:, :, 2 * p : 2 * p + 6, 2 * q : 2 * q + 7]
    close(lkops.depthwise_conv2d(**tensors, **options), expected)


def attention_by_hand(t, dilations, groups, interleave):
    u = t["u"]
    c = u.shape[1]
    pad = [d * (t[k].shape[2] // 2) for d, k in zip(dilations, ("dw1_weight", "dw2_weight"), strict=True)]
    a1 = F.conv2d(u, t["dw1_weight"], t["dw1_bias"], padding=pad[0], dilation=dilations[0], groups=c)
    a2 = F.conv2d(a1, t["dw2_weight"], t["dw2_bias"], padding=pad[1], dilation=dilations[1], groups=c)
    ac = torch.cat((u, a1, a2), 1)
    hidden = F.relu(ac.mean((2, 3)) @ t["reduce_weight"].flatten(1).T + t["reduce_bias"])
    s = torch.sigmoid(hidden @ t["expand_weight"].flatten(1).T + t["expand_bias"])
    scaled = ac * s[:, :, None, None]
    per, result = 3 * c // groups, torch.zeros_like(u)
    for o in range(c):
        group = o // (c // groups)
        if interleave:
            k = c // groups
            seen = [part * c + group * k + i for part in range(3) for i in range(k)]
        else:
            seen = list(range(group * per, (group + 1) * per))
        result[:, o] = torch.einsum("nchw,c->nhw", scaled[:, seen], t["mix_weight"][o, :, 0, 0]) + t["mix_bias"][o]
    return result * u


@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_attention_by_hand(interleave, groups) -> None:
    tensors, _ = problem("large_kernel_channel_attention", 2, 8, 11, 12, groups=groups)
    expected = attention_by_hand(tensors, (5, 7), groups, interleave)
    close(lkops.large_kernel_channel_attention(**tensors, interleave=interleave), expected)


def test_in_the_papers_order_the_first_group_sees_only_u_and_the_last_only_a2() -> None:
    tensors, _ = problem("large_kernel_channel_attention", 1, 6, 9, 9, groups=3)
    u = tensors["u"].requires_grad_()
    for key in ("dw1_weight", "dw2_weight"):
        tensors[key].requires_grad_()
    # without the gate's own dependence on everything
    tensors["expand_weight"] = torch.zeros_like(tensors["expand_weight"])
    y = lkops.large_kernel_channel_attention(**tensors)
    for channels, first, second in ((slice(0, 2), 0, 0), (slice(2, 4), 1, 0), (slice(4, 6), 1, 1)):
        g1, g2 = torch.autograd.grad(
            y[:, channels].sum(), (tensors["dw1_weight"], tensors["dw2_weight"]), retain_graph=True
        )
        assert (bool(g1.abs().max() > 0), bool(g2.abs().max() > 0)) == (bool(first), bool(second))
    assert u.grad is None


def test_norm_conv_gelu_is_torchs() -> None:
    tensors, _ = problem("norm_conv1x1_gelu", 2, 8, 5, 6)
    x, norm_weight, norm_bias, weight, bias = tensors.values()
    normed = F.layer_norm(x.movedim(1, -1), (8,), norm_weight, norm_bias, 1e-6).movedim(-1, 1)
    z = F.conv2d(normed, weight, bias)
    close(lkops.norm_conv1x1_gelu(**tensors), z * (1 + torch.erf(z / math.sqrt(2))) / 2)


def test_block_by_hand() -> None:
    t, _ = problem("lk_block", 3, 8, 7, 9)
    u = lkops.norm_conv1x1_gelu(t["x"], t["norm_weight"], t["norm_bias"], t["in_weight"], t["in_bias"])
    w = attention_by_hand({**t, "u": u}, (5, 7), 4, False)
    branch = torch.einsum("nchw,oc->nohw", w, t["out_weight"].flatten(1)) + t["out_bias"][:, None, None]
    close(lkops.lk_block(**t), t["x"] + t["keep"][:, None, None, None] * branch)
    close(lkops.lk_block(**{**t, "keep": None}), t["x"] + branch)


@pytest.mark.parametrize(("scale", "groups"), [(2, 1), (4, 4), (3, 3)])
def test_upsample_add_is_conv_pixel_shuffle_and_bicubic(scale, groups) -> None:
    t, _ = problem("upsample_add", 2, 12, 5, 6, scale=scale, groups=groups, bands=4)
    up = F.pixel_shuffle(F.conv2d(t["features"], t["weight"], t["bias"], padding=1, groups=groups), scale)
    close(lkops.upsample_add(**{**t, "lowres": None}, scale=scale), up)
    close(lkops.upsample_add(**t, scale=scale), up + lkops.bicubic_upsample(t["lowres"], scale=scale))


def losses_by_hand(p, t) -> list[float]:
    n, c, h, w = p.shape
    sam = cosine = 0.0
    for i in range(n):
        for y in range(h):
            for x in range(w):
                a, b = p[i, :, y, x].tolist(), t[i, :, y, x].tolist()
                norms = [math.sqrt(math.fsum(v * v for v in s)) for s in (a, b)]
                dot = math.fsum(v * u for v, u in zip(a, b, strict=True))
                cos = dot / (norms[0] * norms[1]) if min(norms) >= 1e-6 else 0.0
                sam += math.acos(min(max(cos, -1 + 1e-6), 1 - 1e-6)) / math.pi
                cosine += 1 - cos
    gradient = 0.0
    for i in range(n):
        for b in range(1, c):
            for y in range(1, h):
                for x in range(1, w):
                    g = []
                    for cube in (p[i], t[i]):
                        here = float(cube[b, y, x])
                        steps = (cube[b - 1, y, x], cube[b, y - 1, x], cube[b, y, x - 1])
                        g.append(math.sqrt(sum((here - float(s)) ** 2 for s in steps) + 1e-6))
                    gradient += abs(g[0] - g[1])
    maps = n * (c - 1) * (h - 1) * (w - 1)
    return [float((p - t).abs().mean()), sam / (n * h * w), cosine / (n * h * w), gradient / maps]


@pytest.mark.parametrize("empty_spectra", [False, True])
def test_losses_by_hand(empty_spectra) -> None:
    t, _ = problem("spectral_losses", 2, 5, 6, 7, empty_spectra=empty_spectra)
    got = lkops.spectral_losses(**t)
    assert [float(loss) for loss in got] == pytest.approx(losses_by_hand(**{"p": t["prediction"], "t": t["target"]}))
    assert float(lkops.sam_loss(**t)) == float(got.sam)
    assert float(lkops.cosine_loss(**t)) == float(got.cosine)
    assert float(lkops.gradient_loss(**t)) == float(got.gradient)


def test_losses_of_identical_cubes() -> None:
    x = torch.rand(2, 6, 5, 4, dtype=torch.float64)
    losses = lkops.spectral_losses(x, x)
    assert float(losses.l1) == float(losses.gradient) == 0
    assert float(losses.cosine) == pytest.approx(0, abs=1e-15)
    assert float(losses.sam) == pytest.approx(math.acos(1 - 1e-6) / math.pi)  # the floor of the clamp, 4.5e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_pixels_without_a_direction(dtype) -> None:
    """SAM 0.5, cosine 1 and gradient exactly 0 where a norm is below 1e-6; nothing is NaN."""
    target = torch.rand(1, 4, 1, 3).to(dtype)
    prediction = torch.tensor([0.0, 1e-7, 1.0]).expand(1, 4, 1, 3).to(dtype).clone().requires_grad_()
    losses = lkops.spectral_losses(prediction[..., :2], target[..., :2])
    assert losses.sam.item() == 0.5
    assert losses.cosine.item() == 1
    losses = lkops.spectral_losses(prediction, target)
    (losses.sam + losses.cosine).backward()
    assert torch.equal(prediction.grad[..., :2], torch.zeros(1, 4, 1, 2, dtype=dtype))
    assert prediction.grad[..., 2].abs().max() > 0
    assert prediction.grad.isfinite().all()


def test_means_over_nothing_are_zero_with_zero_gradient() -> None:
    for shape in ((2, 1, 4, 4), (2, 4, 1, 4), (2, 4, 4, 1), (0, 4, 4, 4)):
        prediction, target = torch.rand(shape, requires_grad=True), torch.rand(shape)
        losses = lkops.spectral_losses(prediction, target)
        assert losses.gradient.item() == 0
        losses.gradient.backward()
        assert prediction.grad is not None
        assert not prediction.grad.any()
        assert all(loss.isfinite() for loss in losses)


def test_half_precision_losses_do_not_overflow() -> None:
    prediction = torch.full((1, 64, 32, 32), 300.0, dtype=torch.float16, requires_grad=True)
    losses = lkops.spectral_losses(prediction, torch.full_like(prediction, 100.0))
    assert losses.l1.item() == 200
    assert all(loss.dtype is torch.float32 and loss.isfinite() for loss in losses)
    sum(losses).backward()
    assert prediction.grad.isfinite().all()
