"""`lkops.fuse` on networks of other people's making: the report, the results, and that it stays the same model."""

import copy
import io
import os
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn

import lkops
from lkops.fusion import sharing
from tests.lkops.fusion.foreign import NETWORKS

BANDS = {"VDSR": 5, "functional": 4}
GATE, UP, DEPTH = "channel_attention", "upsample_add", "depthwise_conv2d"
NORM, CONV = "norm_conv1x1_gelu", "conv2d"
RELU, RESIDUAL = "conv 3x3 + relu", "conv 3x3 + residual"
# what the report must say was replaced
EXPECTED = {
    "EDSR": [("tail.0.0", UP), ("tail.0.2", UP)],
    "RCAN": [*[(f"body.{i}.{j}.body.3.forward: mul", GATE) for i in (0, 1) for j in (0, 1)], ("tail.0.0", UP)],
    "RCAN, linear": [*[(f"body.{i}.{j}.body.3.forward: mul", GATE) for i in (0, 1) for j in (0, 1)], ("tail.0.0", UP)],
    "VDSR": [("upscale.0", UP)],
    "VAN": [
        *[
            (f"blocks.{i}.{part}", what)
            for i in (0, 1)
            for part, what in (
                ("spatial_gating_unit.conv0", DEPTH),
                ("spatial_gating_unit.conv_spatial", DEPTH),
                ("dwconv", DEPTH),
                ("proj_1", NORM),
            )
        ],
        ("to_img.0", UP),
    ],
    "SwinIR": [("upsample.0", UP)],
    "functional": [
        *[("w_up", UP), ("forward: mul", GATE), ("forward: mul_1", GATE), ("blocks.0.expand", NORM)],
        *[("blocks.1.expand", NORM), ("blocks.0.depth", DEPTH), ("blocks.1.depth", DEPTH)],
    ],
    "recursive": [("mix.0", DEPTH), ("conv_up", UP)],
    "weight norm": [("tail.0", UP), ("skip.0", UP)],
    "untraceable": [
        *[(f"refine.{i}.{part}", op) for i in range(3) for part, op in (("0", DEPTH), ("2.forward: mul", GATE))],
        ("tail.0", UP),
    ],
}
# and the dense convs, with their patterns
RCAN_CONVS = {
    **{f"body.{i}.{j}.body.0": RELU for i in (0, 1) for j in (0, 1)},
    **{f"body.{i}.{j}.body.2": "conv 3x3" for i in (0, 1) for j in (0, 1)},
    **{f"body.{i}.2": "conv 3x3" for i in (0, 1)},
    "body.2": RESIDUAL,
}
CONVS = {
    "EDSR": {
        **{f"body.{i}.body.0": RELU for i in (0, 1)},
        **{f"body.{i}.body.2": "conv 3x3 + scale + residual" for i in (0, 1)},
        "body.2": RESIDUAL,
    },
    "RCAN": RCAN_CONVS,
    "RCAN, linear": RCAN_CONVS,
    "VDSR": {f"features.{i}": RELU for i in (2, 4, 6)},
    "SwinIR": {"conv_after_body": "conv 3x3"},
    "weight norm": {f"body.{i}.3": "conv 3x3" for i in (0, 1)},
}
LEFT = {"SwinIR": "assigns to attributes", "untraceable": "inputs to control flow"}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(NETWORKS))
def case(request):
    """(name, model, fused, report, image); made once, so a test puts back what it changes."""
    torch.manual_seed(0)
    model = NETWORKS[request.param]()
    image = torch.rand(2, BANDS.get(request.param, 3), 12, 8)
    return request.param, model, *lkops.fuse(model, image), image


def outputs(model, image, *, training=False):
    torch.manual_seed(3)
    model.train(training)
    return model(image)


def gradients(model, image, *, training=False):
    leaf = image.clone().requires_grad_()
    outputs(model, leaf, training=training).square().sum().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return grads | {"input": leaf.grad}


def test_report_says_what_was_replaced(case) -> None:
    name, _, _, report, _ = case
    others = [part for part in report.replaced if part.operator != CONV]
    assert sorted((r.place, r.operator) for r in others) == sorted(EXPECTED[name])
    assert {r.place: r.pattern for r in report.replaced if r.operator == CONV} == CONVS.get(name, {})
    whole = [left for left in report.left if left.place == ""]
    assert bool(whole) == (name in LEFT)
    assert all(LEFT[name] in left.why for left in whole)
    assert "outputs and gradients" in report.checked
    assert 0 < report.share < 1
    assert report.most == pytest.approx(1 / (1 - report.share))
    for replaced in report.replaced:
        assert replaced.place in str(report)
        assert replaced.before is None or f"{replaced.before:.3f} -> {replaced.after:.3f} ms" in str(report)
    assert f"{report.most:.2f}x is the most" in str(report)


def calls_made(monkeypatch, run) -> int:
    """How many calls reach the operators."""
    from lkops.fusion import calls, conv_calls

    count = []
    for name in (UP, DEPTH, GATE, NORM, "bicubic_upsample", CONV):
        place = conv_calls if name == CONV else calls
        original = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, _original=original, **k: (count.append(1), _original(*a, **k))[1])
    run()
    return len(count)


def test_outputs_and_gradients_are_those_of_float64(case, monkeypatch) -> None:
    """By this test's own comparison, not that of `fuse`: within 4 times eager's error or a few roundings."""
    name, model, fused, report, image = case
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        eager, truth = outputs(model, image), outputs(exact, image.double())
        made = calls_made(monkeypatch, lambda: outputs(fused, image))
        ours = outputs(fused, image)
    times = 3 if name == "recursive" else 1
    assert made == len(report.replaced) * times
    assert ours.abs().max() > 0
    assert (ours - truth).abs().max() <= 4 * (eager - truth).abs().max() + 1e-6 * truth.abs().max()
    eager_grads, ours_grads = gradients(model, image), gradients(fused, image)
    assert ours_grads.keys() == eager_grads.keys()
    largest = max(grad.abs().max() for grad in eager_grads.values())
    for what, grad in eager_grads.items():
        torch.testing.assert_close(ours_grads[what], grad, rtol=1e-4, atol=1e-6 * largest, msg=lambda m, w=what: w + m)


def test_gradients_where_the_operators_would_not_be_worth_it(case, monkeypatch) -> None:
    """What small images and dense convs leave to PyTorch in training is right too."""
    from lkops.fusion import calls

    _, model, fused, report, image = case
    for rule in ("_worth_shuffling", "_worth_norm"):
        monkeypatch.setattr(calls, rule, lambda *arguments: True)
    eager = gradients(model, image)
    found = {}
    assert calls_made(monkeypatch, lambda: found.update(gradients(fused, image))) >= len(report.replaced)
    largest = max(grad.abs().max() for grad in eager.values())
    for what, grad in eager.items():
        torch.testing.assert_close(found[what], grad, rtol=1e-4, atol=1e-6 * largest, msg=lambda m, w=what: w + m)


def test_same_parameters_buffers_and_state_dict(case) -> None:
    _, model, fused, _, _ = case
    assert list(fused.state_dict()) == list(model.state_dict())
    ours, theirs = dict(fused.named_parameters()), dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in theirs)
    assert all(a is b for a, b in zip(fused.buffers(), model.buffers(), strict=True))
    assert not any(sharing.is_fused(module) for module in model.modules())
    assert isinstance(fused, type(model))
    assert repr(fused) == repr(model)


def test_loading_and_training_reach_both(case) -> None:
    name, model, fused, _, image = case
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(1)
    other = NETWORKS[name]()
    with torch.no_grad():
        before = outputs(fused, image)
        fused.load_state_dict(other.state_dict())
        torch.testing.assert_close(outputs(fused, image), outputs(other, image), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs(model, image), outputs(other, image), rtol=1e-4, atol=1e-5)
        assert (outputs(model, image) - before).abs().max() > 1e-3
    optimizer = torch.optim.SGD(fused.parameters(), lr=1e-3)
    first = outputs(fused, image, training=True).square().mean()
    first.backward()
    optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(outputs(fused, image), outputs(model, image), rtol=1e-4, atol=1e-5)
        assert (outputs(model, image) - outputs(other, image)).abs().max() > 0
    model.zero_grad(set_to_none=True)
    model.load_state_dict(kept)


def test_copies_are_independent_and_still_fused(case, monkeypatch) -> None:
    _, model, fused, report, image = case
    twin = copy.deepcopy(fused)
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    with torch.no_grad():
        assert calls_made(monkeypatch, lambda: outputs(twin, image)) >= len(report.replaced)
        assert torch.equal(outputs(twin, image), outputs(fused, image))
        for parameter in twin.parameters():
            parameter.zero_()
        torch.testing.assert_close(outputs(fused, image), outputs(model, image), rtol=1e-4, atol=1e-5)


def test_pickles_where_the_model_does(case, monkeypatch) -> None:
    name, model, fused, report, image = case
    try:
        pickle.dumps(model)
    except RuntimeError:
        assert name == "weight norm"  # torch refuses parametrised modules
        return
    buffer = io.BytesIO()
    torch.save(fused, buffer)
    buffer.seek(0)
    back = torch.load(buffer, weights_only=False)
    with torch.no_grad():
        assert calls_made(monkeypatch, lambda: outputs(back, image)) >= len(report.replaced)
        assert torch.equal(outputs(back, image), outputs(fused, image))


def test_fusing_again_changes_nothing(case) -> None:
    _, _, fused, _, image = case
    again, report = lkops.fuse(fused, image)
    assert not report.replaced
    assert any("were fused before" in note for note in report.notes)
    assert not any("depthwise" in left.what for left in report.left)
    with torch.no_grad():
        assert torch.equal(outputs(again, image), outputs(fused, image))


@pytest.mark.parametrize("name", ["VDSR", "VAN", "functional"])
def test_compiles_as_one_graph(name) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name](blocks=1) if name != "VDSR" else NETWORKS[name](depth=1)
    image = torch.rand(1, BANDS.get(name, 3), 8, 8)
    fused = lkops.fuse(model)[0].eval()
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), model.eval()(image), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_distributed_data_parallel(tmp_path) -> None:
    torch.manual_seed(0)
    model = NETWORKS["VAN"]()
    image = torch.rand(2, 3, 8, 8)
    expected = gradients(model, image)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(lkops.fuse(model)[0])
        found = gradients(wrapped, image)
        with pytest.raises(ValueError, match="before it is wrapped, got a DistributedDataParallel"):
            lkops.fuse(wrapped)
    finally:
        dist.destroy_process_group()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name if name == "input" else f"module.{name}"], grad, rtol=1e-3, atol=1e-5)


def test_environment_of_the_tests() -> None:
    assert os.environ.get("LKOPS_BACKEND") is None, "the number of calls below holds for the automatic backend"
