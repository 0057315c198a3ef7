"""`lkops.fuse`, part by part: what is the same as an operator, and what only looks like it."""

import operator
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lkops


class Net(nn.Module):
    """Modules by name, and a forward (self, x)."""

    def __init__(self, run: Callable[..., Tensor], **parts) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def conv(inputs=4, outputs=16, kernel=3, **options):
    options.setdefault("padding", options.get("dilation", 1) * (kernel // 2))
    return nn.Conv2d(inputs, outputs, kernel, **options)


def deep(channels=4, kernel=3, **options):
    return conv(channels, channels * options.pop("times", 1), kernel, groups=channels, **options)


def same(model, fused, x, close=1e-4):
    """Outputs and input gradients, in both modes, but for `close` of themselves and a tenth of it of the largest."""
    for training in (False, True):
        results = []
        for module in (model, fused):
            leaf = x.clone().requires_grad_()
            torch.manual_seed(0)
            output = module.train(training)(leaf)
            results.append((output.detach(), *torch.autograd.grad(output.square().sum(), leaf)))
        for ours, theirs in zip(*results[::-1], strict=True):
            assert theirs.abs().max() > 0
            torch.testing.assert_close(ours, theirs, rtol=close, atol=close / 10 * theirs.abs().max().item())


def fused_with(model, x, *operators, left=(), close=1e-4):
    """Fuse, with the check and without; the report must name these operators and reasons; results must be the same."""
    fused, report = lkops.fuse(model, x)
    assert sorted(r.operator for r in report.replaced) == sorted(operators), str(report)
    for reason in [left] if isinstance(left, str) else left:
        assert any(reason in part.why for part in report.left), str(report)
    same(model, fused, x, close)
    return fused


X = torch.rand(2, 4, 8, 6)
UP, GATE, NORM, DEPTH, CUBIC = (
    *("upsample_add", "channel_attention", "norm_conv1x1_gelu", "depthwise_conv2d", "bicubic_upsample"),
)


def bicubic(x, r=2, **options):
    return F.interpolate(x, scale_factor=r, mode="bicubic", **options)


def shuffled(s, x):
    return F.pixel_shuffle(s.c(x), 2)


UPSAMPLERS = {
    "sum the other way round": (lambda s, x: bicubic(x) + shuffled(s, x), [UP]),
    "torch.add": (lambda s, x: torch.add(shuffled(s, x), bicubic(x)), [UP]),
    "method": (lambda s, x: shuffled(s, x).add(bicubic(x)), [UP]),
    "in place": (lambda s, x: shuffled(s, x).add_(bicubic(x)), [UP]),
    "operator in place": (lambda s, x: operator.iadd(bicubic(x), shuffled(s, x)), [UP]),
    "weighted sum": (lambda s, x: torch.add(shuffled(s, x), bicubic(x), alpha=0.5), [UP, CUBIC]),
    "difference": (lambda s, x: shuffled(s, x) - bicubic(x), [UP, CUBIC]),
    "pair of factors": (lambda s, x: shuffled(s, x) + bicubic(x, (2, 2)), [UP]),
    "float factor": (lambda s, x: shuffled(s, x) + bicubic(x, 2.0, align_corners=False), [UP]),
    "size": (lambda s, x: shuffled(s, x) + F.interpolate(x, (x.shape[2] * 2, x.size(3) * 2), mode="bicubic"), [UP]),
    "size of the sum": (
        lambda s, x: (u := shuffled(s, x)) + F.interpolate(x, u.shape[-2:], mode="bicubic"),
        [UP, CUBIC],
    ),
    "another size": (lambda s, x: F.interpolate(x, size=(9, 7), mode="bicubic"), [CUBIC]),
    "one side": (lambda s, x: F.interpolate(x, size=(16, 6), mode="bicubic"), [CUBIC]),
    "one band": (lambda s, x: shuffled(s, x) + bicubic(x[:, :1]), [UP]),
    "bicubic used twice": (lambda s, x: (b := bicubic(x)) + shuffled(s, x) * b, [UP, CUBIC]),
    "sum used twice": (lambda s, x: (y := shuffled(s, x) + bicubic(x)) * y.sigmoid(), [UP]),
    "functional conv": (lambda s, x: F.pixel_shuffle(F.conv2d(x, s.c.weight, s.c.bias, 1, 1), 2), [UP]),
    "functional, same": (lambda s, x: F.pixel_shuffle(F.conv2d(x, s.c.weight, padding="same"), 2), [UP]),
}


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_upsamplers(name) -> None:
    run, operators = UPSAMPLERS[name]
    fused_with(Net(run, c=conv()), X, *operators)


LEFT = {
    "bilinear": (lambda s, x: shuffled(s, x) + F.interpolate(x, scale_factor=2, mode="bilinear"), {}, [UP], ()),
    "corners": (lambda s, x: shuffled(s, x) + bicubic(x, align_corners=True), {}, [UP], "align_corners=True"),
    "antialias": (lambda s, x: shuffled(s, x) + bicubic(x, antialias=True), {}, [UP], "antialias=True"),
    "no whole factor": (lambda s, x: bicubic(x, 1.5), {}, [], "1.5 is no whole number"),
    "stride": (shuffled, {"stride": 2}, [], "a stride"),
    "dilation": (shuffled, {"dilation": 2}, [], "a dilation"),
    "even kernel": (shuffled, {"kernel": 4}, [], "an even kernel"),
    "no padding": (shuffled, {"padding": 0}, [], "a padding"),
    "reflecting": (shuffled, {"padding_mode": "reflect"}, [], "a padding"),
    "in between": (lambda s, x: F.pixel_shuffle(F.relu(s.c(x)), 2), {}, [], "no plain conv"),
    "used elsewhere": (lambda s, x: F.pixel_shuffle(y := s.c(x), 2) * y.mean(), {}, [], "used elsewhere"),
    "complex": (lambda s, x: F.pixel_shuffle(s.c(x.to(torch.complex64)), 2).abs(), {"dtype": torch.complex64}, [],
                "its dtype is complex64"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_only_looks_like_an_upsampler(name) -> None:
    run, options, operators, reason = LEFT[name]
    fused_with(Net(run, c=conv(**options)), X, *operators, left=reason)


def changes_image(s, x):
    x = x * 1
    base = bicubic(x)
    x.mul_(2)
    return shuffled(s, x) + base


def changes_features(s, x):
    f = F.relu(x)
    up = shuffled(s, f)
    f.view(-1).add_(1)
    return up + bicubic(f)


def changes_by_child(s, x):
    x = x * 1
    base = bicubic(x)
    return shuffled(s, s.act(x)) + base


def changes_by_module(s, x):
    base = bicubic(x := x * 1)
    return shuffled(s, s.net(x)) + base


@pytest.mark.parametrize(
    ("run", "parts", "operators"),
    [
        (changes_image, {}, [UP, CUBIC]),
        (changes_by_child, {"act": nn.ReLU(inplace=True)}, [UP, CUBIC]),
        (changes_by_child, {"act": nn.ReLU()}, [UP]),
        (changes_by_child, {"act": nn.Sequential(nn.Identity(), nn.LeakyReLU(0.2, True))}, [UP, CUBIC]),
        (changes_by_child, {"act": nn.Sequential(conv(4, 4), nn.ReLU(True))}, [UP]),
        (changes_by_module, {"net": Net(lambda s, x: x.add_(1))}, [UP, CUBIC]),
        (changes_by_module, {"net": Net(lambda s, x: (x + 1).mul_(2))}, [UP]),
        (changes_by_module, {"net": Net(lambda s, x: x if x.sum() < 0 else x.add_(1))}, [UP, CUBIC]),
    ],
)
def test_what_is_changed_in_place_in_between(run, parts, operators) -> None:
    fused_with(Net(run, c=conv(), **parts), X, *operators)


def test_features_that_are_changed_after_their_conv() -> None:
    """PyTorch itself has no gradient there, but it has a result."""
    model = Net(changes_features, c=conv())
    with torch.no_grad():
        fused, report = lkops.fuse(model, X)
        assert "not gradients in evaluation, where the model fails" in report.checked
        assert sorted(r.operator for r in report.replaced) == [CUBIC, UP]
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "operators", "left"),
    [
        (deep(kernel=5, dilation=3), [DEPTH], ()),
        (deep(kernel=3, padding="same", bias=False), [DEPTH], ()),
        (nn.Conv2d(4, 4, (1, 5), padding=(0, 2), groups=4), [DEPTH], ()),
        (nn.Conv2d(4, 4, 3, padding=(1, 2), dilation=(1, 2), groups=4), [], "does not keep the size"),
        (deep(times=2), [], "2 outputs a channel"),
        (deep(stride=2), [], "a stride"),
        (deep(padding_mode="circular"), [], "does not keep the size"),
        (deep(padding=0), [], "does not keep the size"),
        (conv(4, 4, groups=2), [], ()),
        (type("Odd", (nn.Conv2d,), {"forward": lambda s, x: nn.Conv2d.forward(s, x) * 2})(4, 4, 3, 1, 1, 1, 4), [],
         "Odd has a forward of its own"),
        (type("Named", (nn.Conv2d,), {})(4, 4, 3, 1, 1, 1, 4), [DEPTH], ()),
    ],
)  # fmt: skip
def test_depthwise_convs(layer, operators, left) -> None:
    fused_with(nn.Sequential(layer), X, *operators, left=left)
    if not left and operators:  # and where its parent can't be traced, or it is called as a function
        fused_with(Net(lambda s, x: s.c(x) if x.sum() > 0 else x, c=layer), X, *operators)
        options = (layer.stride, layer.padding, layer.dilation, layer.groups)
        run = lambda s, x: F.conv2d(x, s.c.weight, s.c.bias, *options)  # noqa: E731
        fused_with(Net(run, c=layer), X, DEPTH, DEPTH)  # the module, and its use as a function


class Gate(nn.Module):
    def __init__(self, spelling, first=None, second=None, act=None) -> None:
        super().__init__()
        self.spelling = spelling
        self.a, self.b = first or nn.Conv2d(4, 2, 1), second or nn.Conv2d(2, 4, 1)
        self.act = act or nn.ReLU()

    def forward(self, x):
        return self.spelling(self, x)


def gate_mean(s, x):
    return torch.sigmoid(s.b(F.relu(s.a(x.mean((2, 3), keepdim=True))))) * x


def gate_pool(s, x):
    return x.mul(s.b(s.act(s.a(F.adaptive_avg_pool2d(x, (1, 1))))).sigmoid().expand_as(x))


def gate_unsqueeze(s, x):
    y = torch.mean(x, dim=(-1, -2))
    return x * torch.sigmoid(s.b(s.act(s.a(y)))).unsqueeze(2).unsqueeze(3)


def gate_index(s, x):
    y = s.act(s.a(F.adaptive_avg_pool2d(x, 1).flatten(1)))
    return x * torch.sigmoid(s.b(y))[:, :, None, None]


def gate_functional(s, x):
    y = F.relu(F.linear(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), s.a.weight, s.a.bias))
    return x * torch.sigmoid(F.linear(y, s.b.weight)).reshape(x.shape[0], -1, 1, 1)


def gate_over_width(s, x):  # scales columns, not channels
    return x * torch.sigmoid(s.b(s.act(s.a(x.mean((2, 3))))))[:, None, None, :]


def gate_other(s, x):
    return (x + 1) * torch.sigmoid(s.b(s.act(s.a(x.mean((2, 3), keepdim=True)))))


def gate_in_place(s, x):
    return (x := x * 1).mul_(torch.sigmoid(s.b(s.act(s.a(x.mean((2, 3), keepdim=True))))))


LINEARS = (nn.Linear(4, 2), nn.Linear(2, 4, bias=False))


@pytest.mark.parametrize(
    ("gate", "operators", "left"),
    [
        (Gate(gate_mean), [GATE], ()),
        (Gate(gate_pool), [GATE], ()),
        (Gate(gate_unsqueeze, *LINEARS), [GATE], ()),
        (Gate(gate_index, *LINEARS), [GATE], ()),
        (Gate(gate_functional, *LINEARS), [GATE], ()),
        (Gate(gate_pool, act=nn.LeakyReLU()), [], "its activation is LeakyReLU"),
        (Gate(gate_pool, act=nn.SiLU()), [], "its activation is SiLU"),
        (Gate(gate_pool, nn.Conv2d(4, 2, 1, groups=2)), [], ()),
        (Gate(gate_other), [], ()),
        (Gate(gate_in_place), [], "in place"),
    ],
)
def test_channel_attention(gate, operators, left) -> None:
    fused_with(gate, torch.rand(2, 4, 60, 50), *operators, left=left)
    fused_with(gate, torch.rand(8, 4, 96, 90), *operators, left=left)  # large enough for the kernel's backward


def test_a_gate_over_another_dimension_is_left() -> None:
    fused_with(Gate(gate_over_width, *LINEARS), torch.rand(2, 4, 5, 4))


class Normed(nn.Module):
    def __init__(self, spelling, act=None, conv=None) -> None:
        super().__init__()
        self.spelling, self.act, self.c = spelling, act or nn.GELU(), conv or nn.Conv2d(4, 6, 1)
        self.weight, self.bias = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.w3, self.b3 = nn.Parameter(torch.rand(4, 1, 1)), nn.Parameter(torch.rand(1, 4, 1, 1))
        self.norm, self.group = nn.LayerNorm(4), nn.GroupNorm(1, 4)

    def forward(self, x):
        return self.act(self.c(self.spelling(self, x)))


def written(s, x):
    mu = x.mean(1, keepdim=True)
    var = x.var(1, keepdim=True, unbiased=False)
    return (x - mu) / torch.sqrt(var + 1e-5) * s.weight.view(1, -1, 1, 1) + s.bias.view(1, -1, 1, 1)


def written_rsqrt(s, x):
    mu = x.mean(dim=1, keepdim=True)
    var = ((x - mu) ** 2).mean(dim=1, keepdim=True)
    return s.b3 + s.w3 * ((x - mu) * torch.rsqrt(var + 1e-5))


def written_unbiased(s, x):
    mu = x.mean(1, keepdim=True)
    return s.w3 * ((x - mu) / torch.sqrt(x.var(1, keepdim=True) + 1e-5)) + s.b3


def written_over_pixels(s, x):
    mu = x.mean((1, 2, 3), keepdim=True)
    var = ((x - mu) ** 2).mean((1, 2, 3), keepdim=True)
    return s.w3 * ((x - mu) / torch.sqrt(var + 1e-5)) + s.b3


def permuted(s, x):
    return s.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def permuted_function(s, x):
    return F.layer_norm(x.permute(0, 2, 3, 1), [4], s.weight, s.bias).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize(
    ("net", "operators", "left"),
    [
        (Normed(written), [NORM], ()),
        (Normed(written_rsqrt), [NORM], ()),
        (Normed(permuted), [NORM], ()),
        (Normed(permuted_function), [NORM], ()),
        (Normed(written, act=nn.GELU("tanh")), [], "tanh form"),
        (Normed(permuted, conv=nn.Conv2d(4, 6, 3)), [], ()),
        (Normed(written_unbiased), [], ()),
        (Normed(written_over_pixels), [], ()),
        (Normed(lambda s, x: s.group(x)), [], ()),
    ],
)
def test_layer_norms(net, operators, left) -> None:
    fused = fused_with(net, X - 0.3, *operators, left=left)
    with torch.no_grad():
        torch.testing.assert_close(fused(X), net(X), rtol=1e-4, atol=1e-5)
