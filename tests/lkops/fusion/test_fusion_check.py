"""What `lkops.fuse` compares on an example: what each level finds, how little it runs, and what it says meanwhile."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import lkops
from lkops.fusion import calls, running, tracing, verification
from tests.lkops.fusion.foreign import NETWORKS
from tests.lkops.fusion.foreign_convs import EDSR, Upsampler
from tests.lkops.fusion.test_fusion_patterns import Normed, X, conv, deep, fused_with, permuted, shuffled

LEVELS = ("full", "outputs", False)


def wrong(operator: str, monkeypatch, *, output: float = 0.0, gradient: float = 0.0, which: int = 0) -> None:
    """Make an operator's output, or its gradient by one argument, wrong by a share."""
    right = getattr(calls, operator)

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * (1 + output)

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * (1 + gradient)

    def run(*arguments, **options):
        arguments = [Scaled.apply(a) if i == which and a is not None else a for i, a in enumerate(arguments)]
        return Wrong.apply(right(*arguments, **options))

    monkeypatch.setattr(calls, operator, run)


def found(model, level, x=X) -> str:
    """What is said to differ; empty if nothing is found."""
    try:
        _, report = lkops.fuse(model, x, check=level)
    except lkops.FusionError as error:
        return str(error)
    assert report.replaced
    return ""


@pytest.mark.parametrize("level", LEVELS)
def test_what_each_level_finds(level, monkeypatch) -> None:
    model = nn.Sequential(conv(4, 4), deep(), conv(4, 4))
    assert not found(model, level)
    wrong("depthwise_conv2d", monkeypatch, output=1e-4)
    assert bool(found(model, level)) == (level is not False)
    monkeypatch.undo()
    for which in (0, 1, 2):
        wrong("depthwise_conv2d", monkeypatch, gradient=1e-3, which=which)
        assert bool(found(model, level)) == (level == "full")
        monkeypatch.undo()


@pytest.mark.parametrize("level", LEVELS)
def test_the_report_says_which_check_was_made(level) -> None:
    report = lkops.fuse(nn.Sequential(deep()), X, check=level)[1]
    words = {
        "full": 'checked on the example input (check="full"): 8 outputs and gradients',
        "outputs": 'checked on the example input (check="outputs"): 4 outputs, no gradients',
        False: "not checked on the example input (check=False)",
    }
    assert report.checked.startswith(words[level])
    assert report.checked in str(report)
    assert 0 < report.share < 1
    assert lkops.fuse(nn.Sequential(deep()), check=level)[1].checked == ""


@pytest.mark.parametrize("check", [True, None, 0, 1.5, ["full"]])
def test_a_check_of_another_type(check) -> None:
    with pytest.raises(TypeError, match='check must be "full", "outputs" or False, got'):
        lkops.fuse(nn.Sequential(deep()), X, check=check)


def test_an_unknown_check() -> None:
    with pytest.raises(ValueError, match='check must be "full", "outputs" or False, got \'gradients\''):
        lkops.fuse(nn.Sequential(deep()), check="gradients")


def test_what_only_inference_runs_is_compared(monkeypatch) -> None:
    """An operator that is worth it without a backward only."""
    models = {"norm_conv1x1_gelu": Normed(permuted), "upsample_add": nn.Sequential(conv(), nn.PixelShuffle(2))}
    for operator, model in models.items():
        wrong(operator, monkeypatch, output=1e-4)
        assert "inference" in found(model, "full")
        assert found(model, "outputs")
        monkeypatch.undo()


class Scaled(nn.Module):
    """What the part gives hardly shows in the output, nor in the gradients by the example and of the other modules."""

    def __init__(self, part) -> None:
        super().__init__()
        self.part, self.scale = part, 1e-9

    def forward(self, x):
        return x + self.part(x) * self.scale


@pytest.mark.parametrize("level", ["full", "outputs"])
def test_a_part_that_hardly_shows_in_the_output(level, monkeypatch) -> None:
    wrong("depthwise_conv2d", monkeypatch, output=1e-3)
    assert "output 0 of part" in found(Scaled(deep()), level)


def test_what_goes_into_a_part_but_does_not_come_from_the_example(monkeypatch) -> None:
    """An image that is a parameter of another module."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Parameter(torch.rand(2, 4, 8, 6))
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x, self.image * 2)

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = conv()

        def forward(self, x, image):
            return shuffled(self, x) + F.interpolate(image, scale_factor=2, mode="bicubic")

    model = Outer()
    assert not found(model, "full")
    wrong("upsample_add", monkeypatch, gradient=1e-3, which=3)
    assert "gradient of input 1 of inner differs" in found(model, "full")


class Frozen(nn.Module):
    """Asks for the mode of a child, which a trace of the forward takes as it is."""

    def __init__(self, run) -> None:
        super().__init__()
        self.c, self.drop, self.run = conv(), nn.Identity(), [run]
        self.eval()

    def forward(self, x):
        return shuffled(self, self.run[0](x, self.drop.training))


def test_what_differs_in_training_only() -> None:
    assert "in training" in found(Frozen(lambda x, training: x * 2 if training else x), "full")
    assert "in training" in found(Frozen(lambda x, training: x * 2 if training else x), "outputs")
    # the same values, and another backward
    assert "in training" in found(Frozen(lambda x, training: x.detach() * 1 + x * 0 if training else x * 1), "full")


def counted(monkeypatch) -> list[str]:
    """Forwards and backwards in order."""
    seen: list[str] = []
    grad, run_exactly = torch.autograd.grad, verification._Example.run_exactly

    def run(model, *arguments, **options):
        seen.append("float64" if options.get("dtype") else "forward")
        return running.run(model, *arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: (seen.append("backward"), grad(*a, **k))[1])
    monkeypatch.setattr(verification, "run", run)
    assert run_exactly
    return seen


def test_how_little_is_run(monkeypatch) -> None:
    """One backward of each model where both modes are the same graph; two where they are not; float64 on demand."""
    plain, dropping = EDSR(blocks=1), nn.Sequential(conv(4, 4), nn.Dropout(0.5), deep())
    image = torch.rand(1, 3, 8, 8)
    seen = counted(monkeypatch)
    monkeypatch.setattr(verification, "unlike", lambda ours, eager: [])
    monkeypatch.setattr(verification, "compare", lambda *arguments: None)
    lkops.fuse(plain, image)
    assert seen == ["forward", "backward"] * 2 + ["forward"] * 3
    seen.clear()
    lkops.fuse(plain, image, check="outputs")
    assert seen == ["forward"] * 4
    seen.clear()
    lkops.fuse(plain, image, check=False)
    assert seen == []
    lkops.fuse(dropping, X)
    assert seen == [*["forward", "backward"] * 2, "forward", *["forward", "backward"] * 2]


def test_float64_is_run_where_it_is_needed_only(monkeypatch) -> None:
    seen = counted(monkeypatch)
    model = nn.Sequential(deep())
    wrong("depthwise_conv2d", monkeypatch, output=2.0**-22)  # within 4 eps
    lkops.fuse(model, X)
    assert "float64" not in seen
    monkeypatch.undo()
    seen = counted(monkeypatch)
    wrong("depthwise_conv2d", monkeypatch, output=2.0**-19)
    assert "rounding allows" in found(model, "full")
    assert seen.count("float64") == 2  # of what differs, and of all


def test_only_what_parts_touch_has_its_gradients_computed(monkeypatch) -> None:
    wanted: list[str] = []
    gradients = running._gradients
    monkeypatch.setattr(
        running, "_gradients", lambda outputs, leaves: (wanted.extend(leaves), gradients(outputs, leaves))[1]
    )
    lkops.fuse(nn.Sequential(nn.Conv2d(3, 8, 1), Upsampler(4, 8), nn.Conv2d(8, 3, 1)), torch.rand(1, 3, 8, 8))
    names = {name.removeprefix("gradient of ") for name in wanted}
    assert names == {"input 0", "input 0 of 1", *[f"1.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]}


@pytest.mark.parametrize("inference", [False, True])
def test_folded_weights_are_compared_too(inference) -> None:
    """Their outputs and what goes into them; the parameters are others."""
    norm = parametrizations.weight_norm
    model = nn.Sequential(norm(conv(4, 4)), nn.ReLU(), norm(deep()), norm(conv()), nn.PixelShuffle(2))
    fused, report = lkops.fuse(model, X, inference=inference)
    assert report.checked.startswith('checked on the example input (check="full")')
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_the_rule_itself() -> None:
    """Float64 decides between what a model's own rounding allows, and what it does not."""
    from lkops.fusion.comparison import compare

    exact = {f"output {i}": torch.linspace(0.5, 1, 64, dtype=torch.float64) for i in range(2)}
    rough = {name: (value * (1 + 1e-5)).float() for name, value in exact.items()}
    asked: list[list[str]] = []

    def truth(names: list[str]) -> dict[str, Tensor]:
        asked.append(names)
        return exact

    near = {**rough, "output 0": (exact["output 0"] * (1 - 1e-5)).float()}
    compare(near, rough, truth, "")  # 2e-5 from the model, which is 1e-5 from the truth
    assert asked == [["output 0"]]
    with pytest.raises(lkops.FusionError, match="differs by"):
        compare({**rough, "output 0": (exact["output 0"] * (1 + 1e-4)).float()}, rough, truth, "")
    asked.clear()
    compare(rough, rough, truth, "")
    assert not asked
    for spoilt in (float("nan"), float("inf")):
        other = {name: value.clone() for name, value in rough.items()}
        other["output 0"][3] = spoilt
        for pair in ((other, rough), (rough, other)):
            with pytest.raises(lkops.FusionError):
                compare(*pair, lambda names: None, "")
        compare(other, other, lambda names: None, "")


def test_untouched_models_are_compared_by_outputs() -> None:
    fused_with(nn.Sequential(conv(), nn.ReLU()), X)
    report = lkops.fuse(nn.Sequential(conv(), nn.ReLU()), X)[1]
    assert 'check="outputs"' in report.checked


def test_each_forward_is_traced_once(monkeypatch) -> None:
    """Twice where it asks for its mode."""
    traced: list[str] = []
    once = tracing._trace_once

    def trace_once(module, *arguments):
        traced.append(type(module).__name__)
        return once(module, *arguments)

    monkeypatch.setattr(tracing, "_trace_once", trace_once)
    lkops.fuse(NETWORKS["RCAN"](groups=3, blocks=4))
    assert traced.count("RCAB") == 12
    assert traced.count("CALayer") == 12
    assert traced.count("RCAN") == 2  # its sum is of a child's conv: with that child, and without
    assert traced.count("Sequential") == 12 + 1  # those of a conv 3x3 and a ReLU, and that with a PixelShuffle
    traced.clear()
    lkops.fuse(NETWORKS["VAN"](blocks=2))
    assert traced.count("DropPath") == 2 * 2
    assert traced.count("LKA") == 2
