"""Hooks, and forwards put on an object, of any module of a fused model do what they do in the model."""

import copy
import pickle
import types
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules import module as registry
from torch.nn.utils import parametrizations

import lkops
from lkops.fusion import calls
from lkops.fusion.draws import SameDraws
from tests.lkops.fusion.foreign import NETWORKS

OPERATORS = ("upsample_add", "depthwise_conv2d", "channel_attention", "norm_conv1x1_gelu", "bicubic_upsample")


class WrappedNorm(nn.Module):
    """A layer norm over channels that is a child of the module that callers see."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.LayerNorm(channels)

    def forward(self, x):
        return self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Tail(nn.Module):
    """A forward of its own that ends in an upsampler, which the caller adds to."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Conv2d(channels, bands * 4, 3, 1, 1), nn.PixelShuffle(2))

    def forward(self, x):
        return self.up(x)


class Parts(nn.Module):
    """What the networks of `foreign` have not: norms within modules, parametrised parts, modules in a list, methods."""

    def __init__(self, bands: int = 3, channels: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(bands, channels, 1)
        self.norm, self.expand, self.act = WrappedNorm(channels), nn.Conv2d(channels, channels, 1), nn.GELU()
        self.wide = parametrizations.weight_norm(nn.Conv2d(channels, channels, 3, 1, 1, groups=channels))
        self.pool, self.reduce, self.relu = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2, 1), nn.ReLU()
        self.gate = nn.ModuleList([nn.Conv2d(2, channels, 1), nn.Sigmoid()])
        self.tail, self.skip = Tail(channels, bands), nn.Upsample(scale_factor=2, mode="bicubic")
        self.shuffle, self.drop = nn.PixelShuffle(2), nn.Dropout(0.3)
        self.last = nn.Conv2d(channels, 4 * bands, 1)

    def forward(self, x):
        f = self.drop(self.wide(self.act(self.expand(self.norm(self.embed(x))))))
        s = self.relu(self.reduce(self.pool(f)))
        for layer in self.gate:
            s = layer(s)
        f = f * s
        return (self.tail(f) + self.skip(x)) * (1 + self.shuffle(self.last(f)))


SMALL = {
    "EDSR": {"blocks": 1, "channels": 8},
    "RCAN": {"groups": 1, "blocks": 1, "channels": 8},
    "RCAN, linear": {"groups": 1, "blocks": 1, "channels": 8},
    "VDSR": {"depth": 1, "channels": 8, "bands": 3, "scale": 2},
    "VAN": {"blocks": 1, "channels": 8},
    "SwinIR": {"blocks": 1, "channels": 8},
    "functional": {"blocks": 1, "channels": 8, "bands": 3},
    "recursive": {"times": 2, "channels": 8},
    "weight norm": {"blocks": 1, "channels": 8},
    "untraceable": {"blocks": 1, "channels": 8},
}
MAKERS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: NETWORKS[name](**SMALL[name]) for name in NETWORKS},
    "parts": Parts,
}
X = torch.rand(2, 3, 8, 8)


def changed(output):
    return output * 1.5 if isinstance(output, torch.Tensor) else output


def scaled(grads):
    return tuple(None if grad is None else grad * 2 for grad in grads)


def own_forward(module):
    def forward(self, *args, **kwargs):
        return changed(type(self).forward(self, *args, **kwargs))

    module.forward = types.MethodType(forward, module)  # a copy's is bound to the copy

    class Handle:
        def remove(self):
            del module.forward

    return Handle()


LOCAL = {
    "forward hook": lambda m: m.register_forward_hook(lambda module, args, y: changed(y)),
    "forward hook with kwargs": lambda m: m.register_forward_hook(
        lambda module, args, kwargs, y: changed(y), with_kwargs=True, always_call=True
    ),
    "forward pre-hook": lambda m: m.register_forward_pre_hook(lambda module, args: tuple(map(changed, args))),
    "forward pre-hook with kwargs": lambda m: m.register_forward_pre_hook(
        lambda module, args, kwargs: (tuple(map(changed, args)), kwargs), with_kwargs=True
    ),
    "backward hook": lambda m: m.register_full_backward_hook(lambda module, inputs, outputs: scaled(inputs)),
    "backward pre-hook": lambda m: m.register_full_backward_pre_hook(lambda module, outputs: scaled(outputs)),
    "forward on the object": own_forward,
}
GLOBAL = {
    "forward hook": lambda: registry.register_module_forward_hook(lambda module, args, y: changed(y)),
    "forward hook with kwargs": lambda: registry.register_module_forward_hook(
        lambda module, args, kwargs, y: changed(y), with_kwargs=True, always_call=True
    ),
    "forward pre-hook": lambda: registry.register_module_forward_pre_hook(
        lambda module, args: tuple(map(changed, args))
    ),
    "backward hook": lambda: registry.register_module_full_backward_hook(
        lambda module, inputs, outputs: scaled(inputs)
    ),
    "backward pre-hook": lambda: registry.register_module_full_backward_pre_hook(
        lambda module, outputs: scaled(outputs)
    ),
}


def results(model):
    """Output without a gradient, output with one, and gradients, in training mode; or how it fails."""
    leaf = X.clone().requires_grad_()
    try:
        with torch.no_grad():
            plain = model.eval()(X)
        torch.manual_seed(0)
        with SameDraws():
            output = model.train()(leaf)
        leaves = [leaf, *(p for p in model.parameters() if p.requires_grad)]
        grads = torch.autograd.grad(output.square().sum(), leaves, allow_unused=True)
        return [plain, output.detach(), *grads]
    except RuntimeError as error:  # a backward hook on what is changed in place
        return str(error).partition(".")[0]


def same(ours, theirs, what):
    if isinstance(theirs, str) or isinstance(ours, str):
        assert ours == theirs, what
        return
    largest = max(grad.abs().max().item() for grad in theirs[2:] if grad is not None)
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert (mine is None) == (other is None), what
        if other is not None:
            size = largest if i > 1 else other.abs().max().item()
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=3e-6 * size, msg=lambda m: f"{what}: {m}")


def called(model):
    """Paths of the modules that a forward calls, hooks on which do something."""
    paths, handles = [], []
    for path, module in model.named_modules():
        handles.append(module.register_forward_hook(lambda m, a, y, path=path: paths.append(path)))
    with torch.no_grad():
        model(X)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(paths))


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch):
    """The operators are called wherever they fit, also where they would not be faster."""
    for rule in ("_worth_shuffling", "_worth_norm"):
        monkeypatch.setattr(calls, rule, lambda *arguments: True)


def count_calls(monkeypatch) -> list[str]:
    made: list[str] = []
    for name in OPERATORS:
        original = getattr(calls, name)
        monkeypatch.setattr(calls, name, lambda *a, _o=original, _n=name, **k: (made.append(_n), _o(*a, **k))[1])
    return made


@pytest.mark.wide(most=10)
@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("name", MAKERS)
def test_hooks_added_after_fusing(name, kind, monkeypatch) -> None:
    """At every place; and the operators are back when the hook is gone."""
    torch.manual_seed(0)
    model = MAKERS[name]()
    fused, report = lkops.fuse(model)
    assert report.replaced
    made = count_calls(monkeypatch)
    plain = results(model)
    same(results(fused), plain, name)
    usual, effects = list(made), 0
    assert usual
    for path in called(model):
        handles = [LOCAL[kind](each.get_submodule(path)) for each in (model, fused)]
        theirs, ours = results(model), results(fused)
        for handle in handles:
            handle.remove()
        same(ours, theirs, f"{kind} of {path}")
        effects += isinstance(theirs, str) or any(
            a is not None and not torch.equal(a, b) for a, b in zip(theirs, plain, strict=True)
        )
        made.clear()
        same(results(fused), plain, f"without {kind} of {path}")
        assert made == usual, path
    assert effects >= 1 + (name != "functional")


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", MAKERS)
def test_hooks_added_before_fusing(name, every) -> None:
    """Each pattern is left, or runs them; every kind at every place, or one kind at each."""
    torch.manual_seed(0)
    first = MAKERS[name]()
    kinds = list(LOCAL)
    for i, path in enumerate(called(first)):
        for kind in kinds if every else kinds[i % len(kinds) :][:1]:
            model = copy.deepcopy(first)
            LOCAL[kind](model.get_submodule(path))
            theirs = results(model)
            same(results(lkops.fuse(model)[0]), theirs, f"{kind} of {path}")


@pytest.mark.parametrize("kind", GLOBAL)
@pytest.mark.parametrize("name", MAKERS)
def test_hooks_of_all_modules(name, kind, monkeypatch) -> None:
    """Added before fusing or after: they run, tracing does not see them, and the operators are back without them."""
    torch.manual_seed(0)
    model = MAKERS[name]()
    after = lkops.fuse(model)[0]
    made = count_calls(monkeypatch)
    plain = results(model)
    results(after)
    usual = list(made)
    handle = GLOBAL[kind]()
    try:
        before, report = lkops.fuse(model)
        theirs = results(model)
        assert isinstance(theirs, str) or not all(
            a is None or torch.equal(a, b) for a, b in zip(theirs, plain, strict=True)
        )
        for fused in (before, after):
            same(results(fused), theirs, f"all modules' {kind}")
    finally:
        handle.remove()
    assert report.replaced
    for fused in (before, after):
        made.clear()
        same(results(fused), plain, f"without all modules' {kind}")
        assert made == usual


def test_hooks_of_all_modules_see_nothing_of_fusing() -> None:
    seen: list[nn.Module] = []
    handle = registry.register_module_forward_hook(lambda module, args, y: seen.append(module))
    try:
        lkops.fuse(MAKERS["VAN"](), X)
        assert not seen
        nn.ReLU()(X)
        assert len(seen) == 1
    finally:
        handle.remove()
    assert not registry._global_forward_hooks


def test_copies_ask_their_own_modules() -> None:
    """Of a copy, of a pickled one, and of a model that was fused again."""
    torch.manual_seed(0)
    model = MAKERS["VAN"]()
    fused = lkops.fuse(model)[0]
    for twin in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), lkops.fuse(fused)[0]):
        plain = results(model)
        for each in (twin, model):
            each.to_img[1].register_forward_hook(lambda module, args, y: y * 1.5)
        same(results(twin), results(model), "hooked")
        model.to_img[1]._forward_hooks.clear()
        same(results(fused), plain, "the other")


def test_what_a_class_says_of_calls() -> None:
    """A conv or norm whose class has a `__call__` of its own is called."""

    def call(self, x):
        return nn.Module.__call__(self, x) * 2

    for position, kind, arguments in (
        (0, nn.Conv2d, (3, 12, 3, 1, 1)),
        (1, nn.PixelShuffle, (2,)),
    ):
        layers = [nn.Conv2d(3, 12, 3, 1, 1), nn.PixelShuffle(2)]
        layers[position] = type("Calls", (kind,), {"__call__": call})(*arguments)
        model = nn.Sequential(*layers)
        fused, report = lkops.fuse(model)
        assert not report.replaced
        same(results(fused), results(model), kind.__name__)


def test_reasons() -> None:
    for kind, why in (("forward hook", "hooks"), ("forward on the object", "a forward")):
        for place in (0, 1):
            model = nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.PixelShuffle(2))
            LOCAL[kind](model[place])
            report = lkops.fuse(model)[1]
            assert [why in left.why for left in report.left] == [True], str(report)
        deep = nn.Conv2d(3, 3, 3, 1, 1, groups=3)
        LOCAL[kind](deep)
        report = lkops.fuse(nn.Sequential(deep))[1]
        assert [why in left.why for left in report.left] == [True], str(report)


def test_a_conv_forward_put_on_a_depthwise_conv() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1, groups=3))
    fused = lkops.fuse(model)[0]
    for each in (model, fused):
        each[0]._conv_forward = lambda x, weight, bias: x * 2
    same(results(fused)[:3], results(model)[:3], "_conv_forward")


@pytest.mark.parametrize("name", ["VAN", "parts"])
def test_compiled_with_hooks(name) -> None:
    """A hook that is there when a fused model is compiled runs in the compiled code, as one graph."""
    torch.manual_seed(0)
    model = MAKERS[name]().eval()
    fused = lkops.fuse(model)[0].eval()
    with torch.no_grad():
        for path in [path for path, module in fused.named_modules() if isinstance(module, (nn.PixelShuffle, nn.GELU))]:
            handles = [LOCAL["forward hook"](each.get_submodule(path)) for each in (model, fused)]
            torch._dynamo.reset()
            compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
            torch.testing.assert_close(compiled(X), model(X), rtol=1e-4, atol=1e-5)
            for handle in handles:
                handle.remove()
    torch._dynamo.reset()
