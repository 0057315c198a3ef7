"""What `lkops.fuse` compares on an example: what each level finds, how little it runs, and what it says meanwhile."""

import copy
import io
import itertools
import random
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations

import lkops
from lkops.fusion import calls, progress, running, verification
from tests.lkops.foreign import NETWORKS
from tests.lkops.foreign_convs import EDSR
from tests.lkops.test_fusion_patterns import Net, Normed, X, conv, deep, fused_with, permuted, shuffled

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
    assert seen.count("float64") == 1


def test_only_what_parts_touch_has_its_gradients_computed(monkeypatch) -> None:
    wanted: list[str] = []
    gradients = running._gradients
    monkeypatch.setattr(
        running, "_gradients", lambda outputs, leaves: (wanted.extend(leaves), gradients(outputs, leaves))[1]
    )
    lkops.fuse(EDSR(blocks=2), torch.rand(1, 3, 8, 8))
    names = {name.removeprefix("gradient of ") for name in wanted}
    assert names == {
        "input 0",
        "input 0 of tail.0",
        *[f"tail.0.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")],
    }


@pytest.mark.parametrize("inference", [False, True])
def test_folded_weights_are_compared_too(inference) -> None:
    """Their outputs and what goes into them; the parameters are others."""
    norm = parametrizations.weight_norm
    model = nn.Sequential(norm(conv(4, 4)), nn.ReLU(), norm(deep()), norm(conv()), nn.PixelShuffle(2))
    fused, report = lkops.fuse(model, X, inference=inference)
    assert report.checked.startswith('checked on the example input (check="full")')
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


class Keeps(nn.Module):
    """Keeps all kinds of things from call to call, and takes another way at the second."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d, self.count, self.seen, self.cache = conv(), deep(), 0, [], {}
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        self.seen.append(self.count)
        self.mean = self.mean + x.mean().detach()
        if "x" in self.cache:
            return F.pixel_shuffle(self.c(self.d(x) - self.cache["x"]), 2)
        self.cache["x"], self.kept = x, x * 2
        return F.pixel_shuffle(self.c(self.d(x)), 2) * self.count


@pytest.mark.parametrize("level", LEVELS)
def test_what_forwards_keep_is_put_back(level) -> None:
    """Each run begins where the model was."""
    model = Keeps()
    fused, report = lkops.fuse(model, X, check=level)
    assert "assigns to attributes" in str(report)
    assert [part.operator for part in report.replaced] == ["depthwise_conv2d"]
    for each in (model, fused):
        assert (each.count, each.seen, each.cache, each.mean.item()) == (0, [], {}, 0)
        assert not hasattr(each, "kept")
    copy.deepcopy(model)
    for _ in range(2):
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_chances_of_python_and_numpy_are_the_same_in_each_run() -> None:
    numpy = pytest.importorskip("numpy")
    model = Net(lambda s, x: s.d(x) if random.random() < 0.5 else -s.d(x) * numpy.random.rand(), d=deep())
    before = random.getstate(), numpy.random.get_state()[1].copy()
    for _ in range(4):
        report = lkops.fuse(model, X)[1]
        assert len(report.replaced) == 1
        random.setstate(before[0])
    assert (numpy.random.get_state()[1] == before[1]).all()


def left_as_it_was(model, x=X, why="") -> None:
    fused, report = lkops.fuse(model, x)
    assert not report.replaced
    assert report.share is None
    assert any(why in left.why for left in report.left), str(report)
    assert why in report.checked
    assert why in str(report)
    assert type(fused) is type(model)
    assert not any(running_class for running_class in map(is_rewritten, fused.modules()))


def is_rewritten(module) -> bool:
    return hasattr(type(module), "_fusion_base")


def test_forwards_that_take_different_routes_are_left() -> None:
    """By something that is kept outside of the model."""
    numbers = itertools.count()
    model = Net(lambda s, x: s.d(x) if next(numbers) % 2 else F.relu(s.d(x)), d=deep())
    left_as_it_was(model, why="two forwards of the model take different routes")
    values = itertools.count()
    model = Net(lambda s, x: s.d(x) * next(values), d=deep())
    left_as_it_was(model, why="their results differ")

    def fails_later(s, x):
        if isinstance(x, fx.Proxy):
            return s.d(x)
        call = next(numbers)
        if call > 1:
            raise RuntimeError("no more")
        return s.d(x) * (call + 1)

    numbers = itertools.count()
    left_as_it_was(Net(fails_later, d=deep()), why="the second fails")


def test_a_route_that_rounding_changes_is_left(monkeypatch) -> None:
    """The model decides by the last bits of what an operator computes."""
    wrong("depthwise_conv2d", monkeypatch, output=2.0**-22)  # within rounding
    model = Net(None, d=deep())
    with torch.no_grad():
        limit = model.d(X).abs().sum().item()

    def decides(s, x):
        y = s.d(x)
        return y * 2 if y.abs().sum() > limit * (1 + 1e-8) else y

    model.run = decides
    left_as_it_was(model, why="the model takes another route after fusing")
    monkeypatch.undo()


def test_a_wrong_operator_is_refused_where_the_model_decides_by_values(monkeypatch) -> None:
    model = NETWORKS["untraceable"]()
    image = torch.rand(1, 3, 8, 8)
    assert lkops.fuse(model, image)[1].replaced
    wrong("depthwise_conv2d", monkeypatch, output=1e-3)
    with pytest.raises(lkops.FusionError, match="differs by"):
        lkops.fuse(model, image)


def test_a_fused_model_that_fails_is_refused(monkeypatch) -> None:
    def fail(*arguments, **options):
        raise RuntimeError("out of order")

    monkeypatch.setattr(calls, "depthwise_conv2d", fail)
    for level in ("full", "outputs"):
        with pytest.raises(lkops.FusionError, match="the fused model fails in evaluation: RuntimeError: out of order"):
            lkops.fuse(nn.Sequential(deep()), X, check=level)


def test_an_example_that_can_not_run_is_said_at_any_level() -> None:
    for level in LEVELS:
        with pytest.raises(ValueError, match=r"model\(\*example_input\) failed: RuntimeError"):
            lkops.fuse(nn.Sequential(deep()), X[:, :3], check=level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_once_it_takes_long(monkeypatch, capsys) -> None:
    model = nn.Sequential(deep())
    lkops.fuse(model, X)
    assert capsys.readouterr().err == ""
    shown = threading.Event()
    show = progress.Progress._show
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress.Progress, "_show", lambda self: (show(self), shown.set()))
    run = verification.run
    monkeypatch.setattr(verification, "run", lambda *a, **k: (shown.wait(10), run(*a, **k))[1])
    lkops.fuse(model, X)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 3
    assert all(line.startswith("lkops.fuse: ") for line in lines)
    assert "lkops.fuse: training mode of the fused model" in lines
    assert lines[-1].endswith(" s")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    lkops.fuse(model, X)
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().count("\r") > 3
    monkeypatch.setattr(sys, "stderr", None)
    lkops.fuse(model, X)
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


def test_parametrisations_run_once_a_forward() -> None:
    """A spectral norm goes on by a step at each of its runs in training."""
    torch.manual_seed(0)
    norm = parametrizations.spectral_norm
    gate = [norm(nn.Conv2d(4, 2, 1)), nn.ReLU(), norm(nn.Conv2d(2, 4, 1))]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep, self.norm, self.expand = norm(deep()), nn.LayerNorm(4), norm(nn.Conv2d(4, 4, 1))
            self.gate, self.up = nn.Sequential(*gate), nn.Sequential(norm(conv()), nn.PixelShuffle(2))

        def forward(self, x):
            x = self.deep(x)
            x = F.gelu(self.expand(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))
            x = x * torch.sigmoid(self.gate[2](F.relu(self.gate[0](F.adaptive_avg_pool2d(x, 1)))))
            return self.up(x)

    model = Model().train()
    image = X.clone().requires_grad_()
    for gradients in (False, True):  # either way through each part
        twin = copy.deepcopy(model)
        fused, report = lkops.fuse(twin)
        assert len(report.replaced) == 4
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(fused.train()(image), model(image), rtol=1e-4, atol=1e-5)
        for (name, ours), theirs in zip(fused.named_buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_fuse_under_a_profiler_and_without_dynamo() -> None:
    """Python's profiler is put back; torch's compiler, which takes long to import, is not touched."""
    code = """if True:
        import cProfile, sys, torch, lkops
        profile = cProfile.Profile()
        profile.enable()
        lkops.fuse(torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, 1, 1, groups=4)), torch.rand(1, 4, 8, 8))
        sum([1, 2])
        profile.disable()
        assert any("builtins.sum" in str(entry.code) for entry in profile.getstats())
        assert "torch._dynamo" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_rule_itself() -> None:
    """Float64 decides between what a model's own rounding allows, and what it does not."""
    from lkops.fusion.comparison import compare

    exact = {"output 0": torch.linspace(0.5, 1, 64, dtype=torch.float64)}
    rough = {"output 0": (exact["output 0"] * (1 + 1e-5)).float()}
    asked: list[int] = []

    def truth() -> dict[str, Tensor]:
        asked.append(1)
        return exact

    near = {"output 0": (exact["output 0"] * (1 - 1e-5)).float()}
    compare(near, rough, truth, "")  # 2e-5 from the model, which is 1e-5 from the truth
    assert asked
    with pytest.raises(lkops.FusionError, match="differs by"):
        compare({"output 0": (exact["output 0"] * (1 + 1e-4)).float()}, rough, truth, "")
    asked.clear()
    compare(rough, rough, truth, "")
    assert not asked
    for spoilt in (float("nan"), float("inf")):
        other = {"output 0": rough["output 0"].clone()}
        other["output 0"][3] = spoilt
        for pair in ((other, rough), (rough, other)):
            with pytest.raises(lkops.FusionError):
                compare(*pair, lambda: None, "")
        compare(other, other, lambda: None, "")


def test_untouched_models_are_compared_by_outputs() -> None:
    fused_with(nn.Sequential(conv(), nn.ReLU()), X)
    report = lkops.fuse(nn.Sequential(conv(), nn.ReLU()), X)[1]
    assert 'check="outputs"' in report.checked
