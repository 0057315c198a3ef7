"""`lkops.fuse`: what can't be put in a graph, is changed later, or is not as usual, gives the model's own results."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import lkops
from lkops.fusion import calls
from tests.lkops.fusion.foreign import NETWORKS, LayerNorm2d
from tests.lkops.fusion.test_fusion_patterns import CUBIC, DEPTH, UP, Gate, X, conv, deep, fused_with, gate_pool, same

# two operators, whatever `pre` does to the image
TAIL = "F.pixel_shuffle(s.c(x), 2) + F.interpolate(x, scale_factor=2, mode='bicubic')"


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


def net(body, **parts):
    """A module whose forward has these lines, and then the tail."""
    lines = [*body.splitlines(), f"return {TAIL}"]
    space = {"F": F, "torch": torch, "random": random, "checkpoint": checkpoint, "Double": Double}
    exec("def forward(s, x, *rest):\n" + "\n".join(f"    {line}" for line in lines), space)
    own = type("Written", (nn.Module,), {"forward": space["forward"]})
    module = own()
    for name, part in {"c": conv(), "d": deep(), **parts}.items():
        setattr(module, name, part)
    return module


REFUSED = {
    "asks for a type": ("if isinstance(x, torch.Tensor): x = x + 1", "isinstance"),
    "asks whether gradients are on": ("if torch.is_grad_enabled(): x = x + 1", "is_grad_enabled"),
    "no gradients": ("with torch.no_grad(): y = s.d(x)\nx = x + s.d(x) * y", "no_grad"),
    "autocast": ("with torch.autocast('cpu', torch.bfloat16): x = s.d(x)\nx = x.float()", "autocast"),
    "decides by values": ("if x.mean() > 0: x = x * 2", "control flow"),
    "keeps something": ("s.kept = x", "assigns to attributes"),
    "makes a tensor": ("x = x + torch.arange(6)", "tensors of its own"),
    "Python's chance": ("x = x * (1 + random.randrange(1))", "random numbers"),
    "torch's chance": ("x = x * (1 if torch.rand(1).item() < 2 else 0)", ""),
    "checkpoints": ("x = checkpoint(s.d, x, use_reentrant=False)", "checkpoint"),
    "a Function": ("x = Double.apply(x)", "autograd.Function"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_forwards_that_a_graph_would_not_hold(name) -> None:
    body, reason = REFUSED[name]
    model = net(body)
    close = 0.1 if name == "autocast" else 1e-4  # d is in bfloat16 there
    fused = fused_with(model, X, DEPTH, left=reason, close=close)
    assert type(fused) is type(model)
    fused_with(nn.Sequential(model, nn.Sequential(conv(), nn.PixelShuffle(2))), X, DEPTH, UP, close=close)


TYPES = {
    "a method": "y.float()",
    "to": "y.to(torch.float32)",
    "by name": "y.to(dtype=torch.float32)",
    "type": "y.type(torch.float32)",
    "a new tensor": "F.conv2d(y, torch.ones(4, 1, 1, 1, dtype=torch.float32), groups=4)",
    "the usual type": "F.conv2d(y, torch.ones(4, 1, 1, 1), groups=4)",
    "random numbers": "(y * (0.5 + torch.rand(y.shape, dtype=torch.float32)))",
}


@pytest.mark.parametrize("name", TYPES)
def test_what_is_allowed_is_known_where_a_type_is_written_into_the_forward(name) -> None:
    """Roundings that a forward makes 1e4 times as large are the model's own: only a run in float64 tells."""
    _, report = lkops.fuse(net(f"y = s.d(x) * 1e4\nx = {TYPES[name]}.sin()"), X)
    assert DEPTH in [part.operator for part in report.replaced], str(report)


def test_a_method_of_a_child_whose_mode_was_not_watched() -> None:
    child = net("")
    type(child).extract = lambda s, x: F.dropout(x, 0.5, s.training)
    fused_with(net("x = s.child.extract(x)", child=child), X, DEPTH, UP, DEPTH, left="of a child")


def test_modes_attributes_and_arguments() -> None:
    model = net("x = F.dropout(x, 0.5, s.training)\nx = x * s.gain\nif rest: x = x - rest[0]\nx = x + s.d(x)")
    model.gain = 2.0
    fused = fused_with(model, X, DEPTH, UP)
    for change in ({"gain": 3.0}, {"gain": 2}, {"gain": 2.0}):
        for module in (model, fused):
            module.gain = change["gain"]
        same(model, fused, X)
    for module in (model, fused):
        module.eval()
    torch.testing.assert_close(fused(X, X), model(X, X), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused(x=X), model(x=X), rtol=1e-4, atol=1e-5)


def test_list_of_upsamplers_chosen_by_an_attribute() -> None:
    """As MDSR does."""
    ups = nn.ModuleList([nn.Sequential(conv(), nn.PixelShuffle(2)), nn.Sequential(conv(4, 36), nn.PixelShuffle(3))])

    class Multi(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ups, self.index, self.scales = ups, 0, [2, 3]

        def forward(self, x):
            scale = self.scales[self.index]
            return self.ups[self.index](x) + F.interpolate(x, scale_factor=scale, mode="bicubic")

    model = Multi()
    fused = fused_with(model, X, UP, UP)
    for module in (model, fused):
        module.index = 1
    same(model, fused, X)
    fused.scales[1] = 2  # a list of its own
    with pytest.raises(RuntimeError, match="size"):
        fused(X)
    same(model, model, X)


def test_hooks() -> None:
    model = nn.Sequential(conv(), nn.PixelShuffle(2), deep())
    seen = []
    handle = model[0].register_forward_hook(lambda m, a, y: seen.append("before") or y * 2)
    fused = fused_with(model, X, DEPTH, left="no plain conv (hooks)")
    assert "before" in seen
    handle.remove()
    fused = fused_with(model, X, UP, DEPTH)
    for place in (0, 2):  # added later: they run, and the others still do not see the operator
        fused[place].register_forward_hook(lambda m, a, y: seen.append("after") or y * 3)
    seen.clear()
    torch.testing.assert_close(fused(X), model[2](model[1](model[0](X)) * 3) * 3 - 0, rtol=1e-4, atol=1e-4)
    assert seen == ["after", "after"]
    assert not model[0]._forward_hooks


def test_modules_replaced_or_changed_after_fusing() -> None:
    model = net("")
    fused = fused_with(model, X, DEPTH, UP)
    for module in (model, fused):
        module.c = nn.Sequential(conv(4, 3), conv(3, 16, 1))
    fused.c.load_state_dict(model.c.state_dict())
    same(model, fused, X)
    model = nn.Sequential(deep(), conv(), nn.PixelShuffle(2))
    fused = fused_with(model, X, DEPTH, UP)
    for module in (model, fused):
        module[0].padding, module[1].stride = (0, 0), (2, 2)
    same(model, fused, X)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype) -> None:
    model = NETWORKS["functional"]().to(dtype).eval()
    image = torch.rand(1, 4, 8, 8).to(dtype)
    fused, report = lkops.fuse(model, image)
    assert len(report.replaced) == 7
    with torch.no_grad():
        ours, theirs = fused(image), model(image)
    assert ours.dtype is dtype
    if dtype is torch.float64:
        assert torch.equal(ours, theirs)  # no kernel takes it: PyTorch's own operators
    else:
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * theirs.abs().max().item())


def test_under_autocast() -> None:
    for name in ("functional", "VAN", "recursive"):
        torch.manual_seed(0)
        model = NETWORKS[name]().eval()
        image = torch.rand(1, 4 if name == "functional" else 3, 8, 8)
        fused = lkops.fuse(model)[0]
        with torch.no_grad():
            exact = model(image)
            with torch.autocast("cpu", torch.bfloat16):
                ours, theirs = fused(image), model(image)
        assert ours.dtype is theirs.dtype
        assert (ours - exact).abs().max() <= 2 * (theirs - exact).abs().max() + 0.02 * exact.abs().max()
        assert not torch.equal(ours.float(), exact)


def test_shapes_that_are_not_usual() -> None:
    model = nn.Sequential(deep(), conv(), nn.PixelShuffle(2), Gate(gate_pool))
    fused = lkops.fuse(model)[0]
    for image in (X[:0], X[0, :, :1, :1][None], X.to(memory_format=torch.channels_last), X[:, :, ::2, ::3]):
        with torch.no_grad():
            torch.testing.assert_close(fused(image), model(image), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fused[:3](X[0]), model[:3](X[0]), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="channels"):
        fused(X[:, :3])


@pytest.mark.filterwarnings("ignore")  # of what torch gives up
def test_places_that_are_left_with_the_reason() -> None:
    with torch.device("meta"):
        model = nn.Sequential(deep(), conv(), nn.PixelShuffle(2))
    report = lkops.fuse(model)[1]
    assert not report.replaced
    assert {left.why for left in report.left} == {"on the meta device"}
    lazy = nn.Sequential(nn.LazyConv2d(16, 3, padding=1), nn.PixelShuffle(2))
    fused, report = lkops.fuse(lazy)
    assert not report.replaced
    assert "hooks" in report.left[0].why
    assert fused(X).shape == (2, 4, 16, 12)
    odd = nn.Sequential(conv(4, 15), nn.PixelShuffle(2))
    assert "15 channels do not divide by 2^2" in str(lkops.fuse(odd)[1])
    linears = Gate(lambda s, x: x * torch.sigmoid(s.b(s.act(s.a(x.mean((2, 3))))))[:, :, None, None])
    linears.a, linears.b = nn.Linear(4, 2), nn.Linear(2, 4)
    assert len(lkops.fuse(linears, X)[1].replaced) == 1
    quantised = torch.ao.quantization.quantize_dynamic(linears, {nn.Linear}, dtype=torch.qint8)
    fused, report = lkops.fuse(quantised)
    assert not report.replaced
    assert torch.equal(fused(X), quantised(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_traced_children() -> None:
    inner = nn.Sequential(conv(), nn.PixelShuffle(2))
    graph = fx.symbolic_trace(nn.Sequential(deep(), nn.ReLU()))
    model = nn.Sequential(graph, torch.jit.script(inner), deep())
    fused_with(model, X, DEPTH, DEPTH)


@pytest.mark.filterwarnings("ignore")  # of the old weight norm
def test_norms_of_weights_are_folded_for_inference_only() -> None:
    def make(norm):
        return nn.Sequential(norm(deep()), norm(conv()), nn.PixelShuffle(2)).eval()

    for norm in (parametrizations.weight_norm, weight_norm, parametrizations.spectral_norm, spectral_norm):
        model = make(norm)
        model(X)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        plain, report = lkops.fuse(model)
        assert list(plain.state_dict()) == list(before)
        hooked = norm in (weight_norm, spectral_norm)
        assert [r.operator for r in report.replaced] == ([] if hooked else [DEPTH, UP])
        fused, report = lkops.fuse(model, inference=True)
        with torch.no_grad():
            torch.testing.assert_close(plain(X), model(X), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)
        if norm is not spectral_norm:  # the old one has no removal that keeps the model as it is
            assert sorted(fused.state_dict()) == ["0.bias", "0.weight", "1.bias", "1.weight"]
            assert [r.operator for r in report.replaced] == ["folded", "folded", DEPTH, UP]
            assert [r.place for r in report.replaced] == ["0", "1", "0", "1"]
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert fused[1].bias is model[1].bias  # what is not folded stays shared


def test_references_among_modules_stay_right() -> None:
    """Modules in plain lists, bound methods, and hooks of others."""
    model = net("x = s.f(s.l[0](x))", p=nn.Dropout(0.5), n=LayerNorm2d(4))
    model.l, model.f = [model.p], model.n.forward
    fused = lkops.fuse(model)[0]
    assert fused.l[0] is fused.p
    assert fused.f.__self__ is fused.n
    fused.train()
    model.eval()
    assert fused.l[0].training
    assert not model.l[0].training


def test_the_check_leaves_no_trace() -> None:
    model = nn.Sequential(conv(4, 4), nn.BatchNorm2d(4), nn.Dropout(0.5), conv(), nn.PixelShuffle(2))
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    modes = [module.training for module in model.modules()]
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    image = X.clone()
    _, report = lkops.fuse(model, image)
    assert len(report.replaced) == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[3].weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(image, X)
    assert not image.requires_grad


@pytest.mark.parametrize("what", ["output 0", "gradient of 0.weight", "gradient of input 0"])
@pytest.mark.parametrize("off", [1e-4, float("nan")])
def test_a_model_that_differs_is_refused(what, off, monkeypatch) -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias):
            ctx.save_for_backward(x, weight, bias)
            y = F.conv2d(x, weight, bias, padding=1, groups=4)
            return y * (1 + off) if what.startswith("output") else y

        @staticmethod
        def backward(ctx, grad):
            with torch.enable_grad():
                leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
                grads = torch.autograd.grad(F.conv2d(*leaves, padding=1, groups=4), leaves, grad)
            wrong = {"gradient of input 0": 0, "gradient of 0.weight": 1}.get(what)
            return tuple(g * (1 + off) if i == wrong else g for i, g in enumerate(grads))

    monkeypatch.setattr(calls, "depthwise_conv2d", lambda x, w, b, dilation: Wrong.apply(x, w, b))
    with pytest.raises(lkops.FusionError, match=f"{what} differs by"):
        lkops.fuse(nn.Sequential(deep()), X)


def test_no_match() -> None:
    model = nn.Sequential(conv(), nn.ReLU(), conv(16, 4))
    fused, report = lkops.fuse(model, X)
    assert str(report).startswith("nothing was replaced: no part matches")
    assert report.share is None
    assert torch.equal(fused(X), model(X))


def test_bad_arguments() -> None:
    model = nn.Sequential(deep())
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
        lkops.fuse(conv)
    with pytest.raises(TypeError, match="example_input must be a tensor or a tuple of arguments, got list"):
        lkops.fuse(model, [X])
    with pytest.raises(ValueError, match=r"model\(\*example_input\) failed: RuntimeError"):
        lkops.fuse(model, X[:, :3])
    with pytest.raises(ValueError, match="must be fused before it is wrapped, got a OptimizedModule"):
        lkops.fuse(torch.compile(model))
    model.stream = (i for i in range(3))
    with pytest.raises(TypeError, match="model can't be copied: TypeError"):
        lkops.fuse(model)


def test_another_device_type_or_backend_decides_at_the_call() -> None:
    model = nn.Sequential(conv(), nn.PixelShuffle(2), nn.Upsample(scale_factor=2, mode="bicubic"))
    fused = fused_with(model, X, UP, CUBIC)
    with lkops.backend("reference"), torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)
    with lkops.backend("cuda"), pytest.raises(RuntimeError, match="backend 'cuda' can't run"):
        fused(X.detach())
