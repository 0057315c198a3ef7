"""Distillation: its loss and gradient are those of the formulas in float64, and the teacher never changes."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lkcanet.data import SuperResolutionPatches, demo_scene, region_split
from lkcanet.data.scenes import Scene
from lkcanet.data.splits import Split
from lkcanet.models import LKCANet, load_model, load_model_and_extra, save_model
from lkcanet.objectives import losses
from lkcanet.objectives.distillation import Distillation
from lkcanet.training import TrainOptions, TrainResult, distill, train
from lkcanet.training import state as _state

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return demo_scene((64, 64), 8, seed=3)


def split_of(scene: Scene) -> Split:
    return region_split(scene.pixels.shape, ":,40:", patch=16, stride=8)


def network(seed: int, blocks: int = 1, groups: int = 1, gain: float = 0.5, **options: object) -> LKCANet:
    """A network whose upsampler does something."""
    torch.manual_seed(seed)
    model = LKCANet(8, 2, 16, blocks, groups, **{"reduction": 8, "drop_path": 0.0, **options})
    with torch.no_grad():
        model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(gain)
    return model


def run(
    scene: Scene, out: Path, student: LKCANet, teacher: LKCANet, kd: Distillation, **options: object
) -> TrainResult:
    given = {"steps": 4, "batch_size": 2, "validate_every": 2, "log_every": 1, "progress": False, **options}
    return distill(student, teacher, scene, split_of(scene), TrainOptions(**given), kd, out)


def rows_of(result: TrainResult) -> list[dict[str, float]]:
    with result.log.open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def plain_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """L1, cosine, spectral angle and gradient term in the formulas' own words."""
    cosine = (a * b).sum(1) / (a.square().sum(1).sqrt() * b.square().sum(1).sqrt())
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).arccos() / torch.pi

    def g(x: Tensor) -> Tensor:
        core = x[:, 1:, 1:, 1:]
        steps = (core - x[:, :-1, 1:, 1:], core - x[:, 1:, :-1, 1:], core - x[:, 1:, 1:, :-1])
        return (sum(step.square() for step in steps) + 1e-6).sqrt()

    return (a - b).abs().mean(), (1 - cosine).mean(), angle.mean(), (g(a) - g(b)).abs().mean()


def up(model: LKCANet, lowres: Tensor) -> tuple[Tensor, Tensor]:
    """F_UP and I_SR by torch's own functions from F."""
    conv = model.upsample.conv
    maps = torch.nn.functional.conv2d(model.features(lowres), conv.weight, conv.bias, padding=1, groups=conv.groups)
    maps = torch.nn.functional.pixel_shuffle(maps, 2)
    bicubic = model(lowres) - model.upsample(model.features(lowres))
    return maps, maps + bicubic


@pytest.mark.parametrize("on", ["image", "features"])
def test_the_gradient_is_that_of_float64(scene: Scene, tmp_path: Path, on: str) -> None:
    """Of one step over all patches: what Adam has seen, against the formulas in float64."""
    student, teacher = network(1, groups=4), network(2, blocks=2)
    exact, tutor = network(1, groups=4).double(), network(2, blocks=2).double()
    split = split_of(scene)
    patches = SuperResolutionPatches(scene, scale=2, lr_size=8, origins=split.train_origins)
    kd = Distillation(on=on, alpha=0.7, cosine_weight=0.3, sam_weight=0.6, gradient_weight=0.9)
    options = {"steps": 1, "batch_size": len(patches), "augment": False, "sam_weight": 0.4, "gradient_weight": 0.2}
    options |= {"floor": 0.0, "psnr_weight": 0.3}
    result = run(scene, tmp_path, student, teacher, kd, **options)
    lowres, target = (torch.stack([pair[i] for pair in patches]).double() for i in (0, 1))
    features, image = up(exact, lowres)
    with torch.no_grad():
        example = up(tutor, lowres)[on == "image"]
    l1, _, angle, gradient = plain_terms(image, target)
    _, cosine, kd_angle, kd_gradient = plain_terms(image if on == "image" else features, example)
    total_kd = 0.3 * cosine + 0.6 * kd_angle + 0.9 * kd_gradient
    log_rmse = ((image - target).square().mean((2, 3)) + 1e-6).sqrt().log().mean()
    loss = l1 + 0.4 * angle + 0.2 * gradient + 0.3 * log_rmse + 0.7 * total_kd
    loss.backward()
    state = _state.read(tmp_path / "state.safetensors")
    for index, (name, parameter) in enumerate(exact.named_parameters()):
        seen = state.moments[index]["exp_avg"].double() / 0.1
        error, size = (seen - parameter.grad).norm(), parameter.grad.norm()
        assert error < 2e-4 * size + 1e-8, name
    (row,) = rows_of(result)
    expected = {"kd": total_kd, "kd_cosine": cosine, "kd_sam": kd_angle, "kd_gradient": kd_gradient, "l1": l1}
    expected |= {"log_rmse": log_rmse, "loss": loss}
    for name, value in expected.items():
        assert row[name] == pytest.approx(float(value.detach()), rel=2e-4), name
    alone = torch.autograd.grad(plain_terms(up(exact, lowres)[1], target)[0], [*exact.parameters()])
    assert (alone[0] - next(exact.parameters()).grad).norm() > 0.1 * alone[0].norm()  # the teacher's part is no trifle


def test_only_the_student_gets_a_gradient() -> None:
    student, teacher = (torch.rand(2, 5, 6, 6, requires_grad=True) for _ in range(2))
    loss = losses.kd_loss(student, teacher, cosine_weight=2, sam_weight=3, gradient_weight=4)
    loss.total.backward()
    assert teacher.grad is None
    assert student.grad.norm() > 0
    assert loss.total.item() == pytest.approx((2 * loss.cosine + 3 * loss.sam + 4 * loss.gradient).item(), rel=1e-6)


def test_upsampled_gives_both_images() -> None:
    model, x = network(3), torch.rand(2, 8, 5, 7)
    features, image = model.upsampled(x)
    expected = up(model.double(), x.double())
    assert features.abs().max() > 0.01
    for ours, theirs in zip((features, image), expected, strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_teacher_never_changes(scene: Scene, tmp_path: Path, precision: str) -> None:
    teacher = network(2, blocks=2, drop_path=0.5)
    teacher.register_buffer("note", torch.arange(3.0), persistent=False)
    teacher.train()
    teacher.head.bias.requires_grad_(False)
    before = {key: value.clone() for key, value in [*teacher.state_dict().items(), ("note", teacher.note)]}
    frozen = {key: parameter.requires_grad for key, parameter in teacher.named_parameters()}
    weights = network(1, groups=4).state_dict()
    student = network(1, groups=4)
    run(scene, tmp_path, student, teacher, Distillation(alpha=1.0), steps=3, precision=precision)
    after = dict([*teacher.state_dict().items(), ("note", teacher.note)])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert {key: parameter.requires_grad for key, parameter in teacher.named_parameters()} == frozen
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(module.training for module in teacher.modules())
    assert any(not torch.equal(weights[key], value) for key, value in student.state_dict().items())


def test_the_teacher_teaches_in_eval_mode(scene: Scene, tmp_path: Path) -> None:
    """A teacher whose drop path would change its images gives what the same one without drop path gives."""
    results = [
        run(scene, tmp_path / str(rate), network(1, groups=4), network(2, blocks=2, drop_path=rate), Distillation())
        for rate in (0.0, 0.9)
    ]
    assert rows_of(results[0]) == rows_of(results[1])


def test_decay_and_every_term_are_logged(scene: Scene, tmp_path: Path) -> None:
    kd = Distillation(alpha=0.5, decay=0.5, frequency=2)
    samples = split_of(scene).counts["train"]
    result = run(scene, tmp_path, network(1), network(2), kd, steps=12, batch_size=samples // 2, augment=False)
    rows = rows_of(result)
    for step, row in enumerate(rows):
        epoch = step * (samples // 2) // samples
        assert row["epoch"] == epoch
        assert row["decay"] == 0.5 ** (epoch // 2)
        terms = 0.5 * row["kd_cosine"] + 0.5 * row["kd_sam"] + 0.1 * row["kd_gradient"]
        assert row["kd"] == pytest.approx(terms, rel=1e-5)
        h = row["l1"] + 0.5 * row["sam_loss"] + 0.1 * row["gradient"]
        assert row["loss"] == pytest.approx(h + row["decay"] * 0.5 * row["kd"], rel=1e-5)
    assert {row["decay"] for row in rows} == {1.0, 0.5, 0.25}
    assert losses.decay(19.5, 0.66, 10) == 0.66
    assert losses.decay(1.3, 0.66, 0.5) == 0.66**2
    assert losses.decay(20, 0.66, 10) == 0.66**2


def test_without_weight_it_is_training(scene: Scene, tmp_path: Path) -> None:
    """alpha 0 gives what `train` gives, bit for bit; with it, something else."""
    given = {"steps": 3, "batch_size": 2, "progress": False}
    alone, free, drawn = (network(1, drop_path=0.3) for _ in range(3))
    train(alone, scene, split_of(scene), TrainOptions(**given), tmp_path / "a")
    run(scene, tmp_path / "b", free, network(2), Distillation(alpha=0.0), **given)
    run(scene, tmp_path / "c", drawn, network(2), Distillation(alpha=1.0), **given)
    same = [torch.equal(a, b) for a, b in zip(alone.parameters(), free.parameters(), strict=True)]
    assert all(same)
    assert any(not torch.equal(a, b) for a, b in zip(alone.parameters(), drawn.parameters(), strict=True))


def test_checkpoints_name_teacher_and_options(scene: Scene, tmp_path: Path) -> None:
    teacher, kd = network(2, blocks=2), Distillation(on="features", alpha=0.2)
    options = TrainOptions(steps=1, batch_size=2, progress=False)
    result = distill(network(1), teacher, scene, split_of(scene), options, kd, tmp_path, teacher_file="t.safetensors")
    extra = load_model_and_extra(result.best)[1] | load_model_and_extra(result.last)[1]
    assert extra["teacher"]["file"] == "t.safetensors"
    assert extra["teacher"]["config"] == teacher.config
    assert extra["distillation"] == json.loads(json.dumps(dataclasses.asdict(kd)))
    assert all("teacher" not in key for key in load_model(result.last).state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on": "logits"}, "on must be one of image, features; got 'logits'"),
        ({"alpha": -1}, "alpha must be a finite number, 0 or more, got -1"),
        ({"cosine_weight": float("nan")}, "cosine_weight must be a finite number"),
        ({"decay": 0}, "decay must be above 0 and at most 1, got 0"),
        ({"decay": 1.5}, r"decay must be above 0 and at most 1, got 1\.5"),
        ({"frequency": 0}, "frequency must be a positive finite number of epochs, got 0"),
        ({"frequency": True}, "frequency must be a positive finite number of epochs"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(**options)


def test_pairs_that_do_not_fit(scene: Scene, tmp_path: Path) -> None:
    student, poisoned = network(1), network(2)
    with torch.no_grad():
        poisoned.head.bias[0] = float("nan")
    cases = {
        "the teacher's bands must be the student's, 8; got 9": LKCANet(9, 2, 16, 1, reduction=8),
        "the teacher's scale must be the student's, 2; got 4": LKCANet(8, 4, 16, 1, reduction=8),
        "teacher and student are the same object": student,
        "weights hold NaN or infinite values, first in head.bias": poisoned,
    }
    for message, teacher in cases.items():
        with pytest.raises(ValueError, match=message):
            run(scene, tmp_path, student, teacher, Distillation())
    assert list(tmp_path.iterdir()) == []


def test_the_command(scene: Scene, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    from lkcanet.cli import build_app
    from lkcanet.data import write_scene

    def lkca(*args: object):
        return testing.CliRunner().invoke(build_app(), [str(arg) for arg in args])

    write_scene(tmp_path / "scene.npz", scene)
    other = dataclasses.replace(scene, name="other", pixels=scene.pixels.copy())
    write_scene(tmp_path / "other.npz", other)
    small = ["--channels", 16, "--blocks", 1, "--patch", 8, "--batch-size", 2, "--steps", 2]
    regions = ["--test", ":,40:", "--train-region", ":48,:40", "--validation", "48:,:40"]
    taught = lkca("train", tmp_path / "scene.npz", "--scale", 2, *small, *regions, "--out", tmp_path / "t")
    assert taught.exit_code == 0, taught.stderr
    teacher = tmp_path / "t" / "best.safetensors"
    command = ["distill", tmp_path / "scene.npz", "--teacher", teacher, *small, "--alpha", 0.25, "--on", "features"]
    result = lkca(*command, "--out", tmp_path / "s", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    model, extra = load_model_and_extra(tmp_path / "s" / "last.safetensors")
    assert model.config["upsample_groups"] == 8  # LKCA-LR by default
    assert model.scale == 2
    assert extra["split"] == load_model_and_extra(teacher)[1]["split"]
    assert report["distillation"] == extra["distillation"]
    assert (extra["distillation"]["alpha"], extra["distillation"]["on"]) == (0.25, "features")
    assert extra["teacher"]["file"] == report["teacher"]["file"] == str(teacher)
    assert "regions of the teacher's training: test 0:64,40:64" in result.stderr
    # a teacher that was trained on several sides of its test region, which the rectangle around its patches covers too
    taught = lkca("train", tmp_path / "scene.npz", "--scale", 2, *small, "--test", ":32,:32", "--out", tmp_path / "t2")
    assert taught.exit_code == 0, taught.stderr
    around = tmp_path / "t2" / "best.safetensors"
    learned = ["distill", tmp_path / "scene.npz", "--teacher", around, *small]
    for name, more in {"s2": [], "s3": ["--test", "0:32,0:-32"]}.items():
        result = lkca(*learned, *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        assert "training on the rest" in result.stderr
        told = load_model_and_extra(tmp_path / name / "last.safetensors")[1]
        assert told["split"] == load_model_and_extra(around)[1]["split"]
    wrong = lkca("distill", tmp_path / "other.npz", "--teacher", teacher, *small, "--out", tmp_path / "x")
    assert "give --test: 'other' is not the scene that" in wrong.stderr
    wrong = lkca(*command, "--out", tmp_path / "x", "--scale", 4)
    assert "--scale is 4, but the teacher" in wrong.stderr
    save_model(LKCANet(9, 2, 16, 1, reduction=8), tmp_path / "nine.safetensors")
    wrong = lkca("distill", tmp_path / "scene.npz", "--teacher", tmp_path / "nine.safetensors", *small, "--out", "x")
    assert "has 8 bands, the network takes 9" in wrong.stderr
    assert not (tmp_path / "x").exists()
