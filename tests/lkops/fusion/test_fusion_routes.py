"""`lkops.fuse` on models that keep things, decide by values or have chances of their own; what it says meanwhile."""

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
from torch import fx, nn
from torch.nn.utils import parametrizations

import lkops
from lkops.fusion import calls, progress, verification
from tests.lkops.fusion.foreign import NETWORKS
from tests.lkops.fusion.test_fusion_check import LEVELS, wrong
from tests.lkops.fusion.test_fusion_patterns import Net, X, conv, deep, fused_with, shuffled


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


class Counts(nn.Module):
    """Counts its calls in a buffer, in place: no graph holds that, and it must not happen while one is made."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = conv(), deep()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls.add_(1)
        return shuffled(self, self.d(x))


@pytest.mark.parametrize("level", LEVELS)
def test_buffers_that_forwards_change_in_place(level) -> None:
    model = Counts()
    fused, report = lkops.fuse(model, X, check=level)
    assert "assigns to attributes: it changes a buffer" in str(report)
    assert [part.operator for part in report.replaced] == ["depthwise_conv2d"]
    assert model.calls.item() == 0
    fused(X)
    assert model.calls.item() == 1
    lkops.fuse(model)
    assert model.calls.item() == 1


def test_a_forward_that_reads_its_dict_is_left() -> None:
    model = Net(lambda s, x: shuffled(s, x * vars(s)["gain"]), c=conv())
    model.gain = 2.0
    fused = fused_with(model, X, left="reads __dict__")
    for each in (model, fused):
        each.gain = 3.0
    torch.testing.assert_close(fused(X), model(X))
