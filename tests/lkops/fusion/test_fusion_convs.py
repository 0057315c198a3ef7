"""Dense convs with what follows them: what becomes one `conv2d`, and what only looks like it."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import lkops
from lkops.fusion import calls, conv_calls
from tests.lkops.fusion.foreign import NETWORKS
from tests.lkops.fusion.test_fusion_patterns import Net, conv, same

X = torch.randn(2, 16, 8, 7)


def dense(outputs=16, **options):
    return conv(16, outputs, **options)


def patterns(model, x=X):
    """What is said to be replaced, after a comparison of results; and the operator must be what runs."""
    fused, report = lkops.fuse(model, x)
    same(model, fused, x)
    count = []
    original = conv_calls.conv2d
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(conv_calls, "conv2d", lambda *a, **k: (count.append(1), original(*a, **k))[1])
        fused(x)
    found = sorted(part.pattern for part in report.replaced if part.operator == "conv2d")
    assert len(count) == len(found), str(report)
    return found


def residual(s, x):
    return x + s.c(x)


ONE = {
    "relu": (lambda s, x: F.relu(s.c(x)), "conv 3x3 + relu"),
    "relu in place": (lambda s, x: F.relu(s.c(x), inplace=True), "conv 3x3 + relu"),
    "relu method": (lambda s, x: s.c(x).relu_(), "conv 3x3 + relu"),
    "leaky": (lambda s, x: F.leaky_relu(s.c(x), 0.3), "conv 3x3 + leaky_relu"),
    "leaky by its usual slope": (lambda s, x: F.leaky_relu(s.c(x)), "conv 3x3 + leaky_relu"),
    "gelu": (lambda s, x: F.gelu(s.c(x)), "conv 3x3 + gelu"),
    "silu": (lambda s, x: F.silu(s.c(x), inplace=True), "conv 3x3 + silu"),
    "sigmoid": (lambda s, x: s.c(x).sigmoid(), "conv 3x3 + sigmoid"),
    "scale": (lambda s, x: s.c(x) * 0.5, "conv 3x3 + scale"),
    "scale first": (lambda s, x: 2 * s.c(x), "conv 3x3 + scale"),
    "residual": (residual, "conv 3x3 + residual"),
    "residual, other way round": (lambda s, x: s.c(x) + x, "conv 3x3 + residual"),
    "residual in place": (lambda s, x: s.c(x).add_(x), "conv 3x3 + residual"),
    "by an operator in place": (lambda s, x: operator.iadd(s.c(x).mul(0.1), x), "conv 3x3 + scale + residual"),
    "all": (lambda s, x: x + 0.1 * F.relu(s.c(x)), "conv 3x3 + relu + scale + residual"),
    "two residuals": (lambda s, x: (s.c(x) + x) + x, "conv 3x3 + residual"),
    # no more than the conv
    "tanh gelu": (lambda s, x: F.gelu(s.c(x), approximate="tanh"), "conv 3x3"),
    "activation after the scale": (lambda s, x: F.relu(s.c(x) * 0.5), "conv 3x3 + scale"),
    "used twice": (lambda s, x: torch.cat([y := s.c(x), F.relu(y)]), "conv 3x3"),
    "relu used twice": (lambda s, x: (y := F.relu(s.c(x))) + y, "conv 3x3 + relu"),
    "into what it is added to": (lambda s, x: (x * 1.0).add_(s.c(x)), "conv 3x3"),
    "a tensor as scale": (lambda s, x: s.c(x) * x, "conv 3x3"),
    "alpha": (lambda s, x: torch.add(x, s.c(x), alpha=0.5), "conv 3x3"),
}


def test_functions() -> None:
    parameters = {"w": nn.Parameter(torch.randn(16, 16, 3, 3) / 12), "b": nn.Parameter(torch.randn(16))}
    assert patterns(Net(lambda s, x: F.relu(F.conv2d(x, s.w, s.b, padding=1)), **parameters)) == ["conv 3x3 + relu"]
    assert patterns(Net(lambda s, x: F.conv2d(x, s.w, padding="same"), **parameters)) == ["conv 3x3"]


@pytest.mark.parametrize("name", ONE)
def test_one_conv(name) -> None:
    run, expected = ONE[name]
    assert patterns(Net(run, c=dense())) == [expected]


MODULES = {
    "relu": (nn.ReLU(True), "conv 3x3 + relu"),
    "leaky_relu": (nn.LeakyReLU(0.2), "conv 3x3 + leaky_relu"),
    "prelu": (nn.PReLU(16), "conv 3x3 + prelu"),
    "prelu of one slope": (nn.PReLU(), "conv 3x3 + prelu"),
    "gelu": (nn.GELU(), "conv 3x3 + gelu"),
    "silu": (nn.SiLU(), "conv 3x3 + silu"),
    "sigmoid": (nn.Sigmoid(), "conv 3x3 + sigmoid"),
    "tanh": (nn.Tanh(), "conv 3x3"),
    "relu6": (nn.ReLU6(), "conv 3x3"),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_in_a_sequence(name) -> None:
    module, expected = MODULES[name]
    assert patterns(nn.Sequential(dense(), module)) == [expected]


def test_convs_that_are_no_gain_stay() -> None:
    for other in (conv(2, 4), dense(kernel=1, padding=0), dense(stride=2), dense(padding=0), dense(padding=2)):
        x = torch.randn(2, other.in_channels, 8, 7)
        assert patterns(nn.Sequential(other, nn.ReLU()), x) == []
    mirrored = dense(padding_mode="reflect")
    assert patterns(nn.Sequential(mirrored, nn.ReLU())) == []


def test_a_sum_that_broadcasts_is_added_by_pytorch() -> None:
    for shape in ((1, 16, 1, 1), (2, 16, 8, 1), (1, 16, 8, 7)):
        model = Net(lambda s, x: s.c(x) + s.other, c=dense(), other=nn.Parameter(torch.randn(shape)))
        fused, _ = lkops.fuse(model, X)
        same(model, fused, X)


def test_two_convs_in_one_sum() -> None:
    model = Net(lambda s, x: F.relu(s.a(x)) + s.b(x), a=dense(), b=dense())
    assert patterns(model) == ["conv 3x3", "conv 3x3 + relu + residual"]


def test_what_is_changed_in_between_is_read_where_it_was() -> None:
    def run(s, x):
        x = x * 1.0
        y = s.c(x)
        x.mul_(2.0)
        return F.relu(y)

    model = Net(run, c=dense())
    fused, report = lkops.fuse(model, X)
    assert [part.pattern for part in report.replaced] == ["conv 3x3"]
    assert "not gradients in training, where the model fails" in report.checked
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_parts_within_a_child_that_is_inlined() -> None:
    """The child is not called any more: what is wholly in it is to be replaced with the rest."""
    model = Net(residual, c=nn.Sequential(dense(), nn.ReLU(True), dense()))
    assert patterns(model) == ["conv 3x3 + relu", "conv 3x3 + residual"]


def test_weights_that_are_computed() -> None:
    model = nn.Sequential(parametrizations.weight_norm(dense()), nn.ReLU())
    assert patterns(model) == ["conv 3x3 + relu"]
    fused, report = lkops.fuse(model, X, inference=True)
    assert [part.operator for part in report.replaced] == ["folded", "conv2d"]
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_hooks_and_forwards_of_its_own_are_seen() -> None:
    model = nn.Sequential(dense(), nn.ReLU())
    fused, _ = lkops.fuse(model, X)
    seen = []
    handle = fused[0].register_forward_hook(lambda module, args, output: seen.append(output.min().item()))
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)
        assert len(seen) == 1
        assert seen[0] < 0  # before the activation
        handle.remove()
        fused[0]._conv_forward = lambda x, weight, bias: torch.zeros_like(x)
        assert not fused(X).any()
    hooked = nn.Sequential(dense(), nn.ReLU())
    hooked[0].register_forward_hook(lambda module, args, output: output + 1)
    report = lkops.fuse(hooked, X)[1]
    assert not report.replaced
    assert any(part.why == "it has hooks" for part in report.left)


def test_other_dtypes_and_autocast_stay_right() -> None:
    model = nn.Sequential(dense(), nn.ReLU(), Net(residual, c=dense()))
    fused, _ = lkops.fuse(model, X)
    with torch.no_grad():
        assert torch.equal(fused.double()(X.double()), model(X.double()))
        model.bfloat16()
        half = X.bfloat16()
        exact = model.double()(half.double())
        eager = model.bfloat16()(half).double()
        error = (fused(half).double() - exact).abs().max()
        assert error <= 2 * (eager - exact).abs().max() + 4 * torch.finfo(torch.bfloat16).eps * exact.abs().max()
        model.float()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fused(X), model(X))


def test_other_sizes_than_the_example() -> None:
    model = nn.Sequential(dense(), nn.ReLU())
    fused, _ = lkops.fuse(model, X)
    for shape in ((1, 16, 1, 9), (3, 16, 2, 3), (0, 16, 5, 5), (1, 16, 33, 18)):
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # and an image without a batch
        torch.testing.assert_close(fused(X[0]), model(X[0]), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="channels"):
        fused(torch.randn(1, 15, 8, 8))


def test_compiled() -> None:
    model = nn.Sequential(dense(), nn.LeakyReLU(0.1), Net(residual, c=dense()))
    fused, _ = lkops.fuse(model, X)
    compiled = torch.compile(fused, fullgraph=True)
    same(model, compiled, X)


@pytest.mark.parametrize("name", ["EDSR", "RCAN"])
def test_relaxed(name, monkeypatch) -> None:
    torch.manual_seed(0)
    model, image = NETWORKS[name](channels=32).eval(), torch.rand(1, 3, 16, 12)
    exact, _ = lkops.fuse(model, image)
    relaxed, report = lkops.fuse(model, image, accuracy="relaxed")
    assert "relaxed: " in report.checked
    given = []
    for module, operator_name in ((conv_calls, "conv2d"), (calls, "upsample_add")):
        original = getattr(module, operator_name)
        monkeypatch.setattr(
            module,
            operator_name,
            lambda *a, _original=original, **k: (given.append(k["accuracy"]), _original(*a, **k))[1],
        )
    with torch.no_grad():
        theirs, ours = exact(image), relaxed(image)
    half = len(given) // 2
    assert given == ["exact"] * half + ["relaxed"] * half
    assert 0 < (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_relaxed_forms_that_are_too_far_off_are_not_returned(monkeypatch) -> None:
    original = conv_calls.conv2d

    def wrong(*arguments, accuracy, **options):
        return original(*arguments, accuracy=accuracy, **options) * (1 + 3e-4 * (accuracy == "relaxed"))

    monkeypatch.setattr(conv_calls, "conv2d", wrong)
    model = nn.Sequential(dense(), nn.ReLU())
    lkops.fuse(model, X)
    with pytest.raises(lkops.FusionError, match="in the relaxed form"):
        lkops.fuse(model, X, accuracy="relaxed")


def test_bad_options() -> None:
    for name, value in (("accuracy", "fast"), ("keep", "some")):
        with pytest.raises(ValueError, match=rf"{name} must be one of .*; got '{value}'"):
            lkops.fuse(nn.Sequential(dense()), X, **{name: value})
        with pytest.raises(TypeError, match=f"{name} must be one of"):
            lkops.fuse(nn.Sequential(dense()), X, **{name: 1})
