"""A network registered from outside brings its objective, strips, memory, rank and ONNX, by the public names alone."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lkops
import lkops.nn
from lkcanet.data import bicubic_downsample, demo_scene, region_split
from lkcanet.deploy.export import export_onnx
from lkcanet.deploy.rank import rank_report
from lkcanet.evaluation.metrics import mpsnr
from lkcanet.inference import memory, reach, strips, super_resolve
from lkcanet.models import (
    CSAKD,
    Capabilities,
    LKCANet,
    Network,
    Strips,
    Upsampler,
    WorkingMemory,
    load_model,
    load_model_and_extra,
    register,
    save_model,
)
from lkcanet.models.registry import named_kind, own_objective, register_objective
from lkcanet.objectives import Batch, HObjective, Objective, objective_for
from lkcanet.training import TrainOptions, state, train


class Gate(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features * features.mean((2, 3), keepdim=True).sigmoid()


class Sharpener(Network):
    """upsampler(gate(relu(conv3x3(x))), x): the gate sees the whole image. Its part is called as a capability is."""

    kind = "sharpener"

    def __init__(self, bands: int, scale: int = 2, channels: int = 8) -> None:
        super().__init__()
        self.bands, self.scale = bands, scale
        self.config = {"bands": bands, "scale": scale, "channels": channels}
        self.body = nn.Sequential(nn.Conv2d(bands, channels, 3, padding=1), nn.ReLU())
        self.gate = Gate()
        self.upsampler = lkops.nn.UpsampleAdd(channels, bands, scale, kernel_size=5)
        nn.init.zeros_(self.upsampler.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsampler(self.gate(self.body(x)), x)

    def fold(self) -> "Sharpener":
        return copy.deepcopy(self).eval()

    def macs(self, height: int, width: int) -> int:
        return height * width * sum(parameter.numel() for parameter in self.parameters() if parameter.dim() > 1)

    def capabilities(self) -> Capabilities:
        def memory_of(shape: Sequence[int], rows: int) -> WorkingMemory:
            n, bands, height, width = shape
            maps = 4 * n * self.config["channels"] * height * width
            return WorkingMemory(3 * maps, maps + 4 * n * bands * self.scale**2 * rows * width)

        return Capabilities(
            reach=3,
            strips=Strips(
                whole=(("body", self.body), ("gate", self.gate)),
                rest=lambda features, lowres, _: self.upsampler(features, lowres),
                halo=2,
            ),
            memory=memory_of,
            upsampler=lambda: Upsampler.of(self.upsampler),
        )


class Weighed(Objective):
    """weight times L1, with a floor of the options'."""

    terms = ("l1",)

    def __init__(self, weight: float, floor: float) -> None:
        super().__init__()
        self.weight, self.floor = nn.Parameter(torch.tensor(weight)), floor

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        l1 = (model(batch.lowres) - batch.target).abs().mean()
        return {"loss": self.weight * l1, "l1": l1}

    def facts(self) -> dict[str, Any]:
        return {"objective": {"name": "Weighed", "floor": self.floor}}


def weighed(network: Network, options: TrainOptions, *, weight: float = 2.0) -> Weighed:
    assert isinstance(network, Sharpener)
    return Weighed(weight, options.floor)


@pytest.fixture(autouse=True)
def registered() -> None:
    register("sharpener", Sharpener, objective=weighed)


def sharpener() -> Sharpener:
    torch.manual_seed(0)
    model = Sharpener(6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_its_objective() -> None:
    options = TrainOptions(floor=0.25)
    objective = objective_for(sharpener(), options, weight=3.0)
    assert isinstance(objective, Weighed)
    assert (objective.weight.item(), objective.floor) == (3.0, 0.25)
    with pytest.raises(ValueError, match=r"the objective of sharpener can't be made: .*'colour'"):
        objective_for(sharpener(), options, colour=1)
    with pytest.raises(TypeError, match="the objective of sharpener must be a callable that makes it, got 3"):
        register("sharpener", Sharpener, objective=3)  # type: ignore[arg-type]
    assert isinstance(objective_for(sharpener()), Weighed)
    register("sharpener", Sharpener)  # once more, without naming it: it stays
    assert isinstance(objective_for(sharpener()), Weighed)
    register("sharpener", Sharpener, objective=lambda network, options: nn.Identity())
    with pytest.raises(TypeError, match="the objective of sharpener must be an Objective, got Identity"):
        objective_for(sharpener())


def test_an_objective_in_place_of_a_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fusion = CSAKD(4, 2, 2, (0, 0, 0, 0), features=8, growth=4)
    kept = own_objective(fusion)
    assert kept is not None
    try:
        register_objective("csakd", lambda network, options: HObjective())
        register_objective("csakd", kept, default=True)  # as `lkcanet.objectives` does when it is imported
        assert isinstance(objective_for(fusion), HObjective)
    finally:
        register_objective("csakd", kept)


def test_it_trains_and_its_checkpoint_loads(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    scene = demo_scene((48, 64), 6, seed=3)
    split = region_split(scene.pixels.shape, ":,40:", patch=16, stride=8)
    options = TrainOptions(steps=2, batch_size=2, validate_every=1, progress=False, threads=1)
    torch.manual_seed(0)
    result = train(Sharpener(6), scene, split, options, tmp_path)
    model, extra = load_model_and_extra(result.last)
    assert isinstance(model, Sharpener)
    assert extra["objective"]["name"] == "Weighed"
    assert state.read(tmp_path / state.STATE).identity["kind"] == "sharpener"
    assert split.validation is not None
    target = scene.cropped(split.validation).tensor()
    bicubic = lkops.bicubic_upsample(bicubic_downsample(target, model.scale), scale=model.scale)
    assert result.bicubic["mpsnr"] == pytest.approx(mpsnr(bicubic, target), abs=1e-4)
    assert result.bicubic["mpsnr"] > result.history[0]["mpsnr"] + 1  # which starts with biases of its own
    assert model.upsampler.conv.weight.abs().max() > 0  # which starts at zero


def test_its_strips_are_the_whole_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)
    model, image, told = sharpener(), torch.rand(2, 6, 27, 14), []
    with torch.no_grad():
        expected = model(image)
    result = super_resolve(model, image, progress=lambda share, what: told.append((share, what)))
    assert torch.equal(result, expected)
    assert [what for _, what in told] == ["gate", *(f"rows {a} to {b} of 27" for a, b in
            ((0, 7), (7, 14), (14, 21), (21, 27))), "done"]  # fmt: skip
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    gate = model.gate
    model.gate = nn.Identity()  # type: ignore[assignment]
    assert not torch.equal(super_resolve(model, image), expected)
    model.gate = gate
    image[1, 5, 20, 3] = float("nan")
    with pytest.raises(ValueError, match="the image holds NaN or infinite pixels"):
        super_resolve(model, image)


def test_records_of_the_first_kind_name_none() -> None:
    assert named_kind(sharpener()) == {"kind": "sharpener"}
    assert named_kind(LKCANet(3, 2, 16, 0, reduction=8)) == {}


class Detail(Network):
    """bicubic(conv3x3(lowres)) + conv1x1(msi - its r x r means): local, by 1 + 2 low-resolution pixels."""

    kind = "detail"

    def __init__(self, bands: int, msi_bands: int, scale: int = 2) -> None:
        super().__init__()
        self.bands, self.msi_bands, self.scale = bands, msi_bands, scale
        self.config = {"bands": bands, "msi_bands": msi_bands, "scale": scale}
        self.smooth = nn.Conv2d(bands, bands, 3, padding=1, bias=False)
        self.inject = nn.Conv2d(msi_bands, bands, 1)

    def forward(self, lowres: Tensor, msi: Tensor) -> Tensor:
        means = nn.functional.avg_pool2d(msi, self.scale)
        detail = msi - nn.functional.interpolate(means, msi.shape[2:])
        return lkops.bicubic_upsample(self.smooth(lowres), scale=self.scale) + self.inject(detail)

    def capabilities(self) -> Capabilities:
        return Capabilities(receptive_field=3)


def test_strips_of_a_local_network_that_fuses(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, told = Detail(5, 3).eval().double(), []
    lowres, msi = torch.rand(2, 5, 40, 7, dtype=torch.float64), torch.rand(2, 3, 80, 14, dtype=torch.float64)
    with torch.no_grad():
        expected = model(lowres, msi)
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)
    result = super_resolve(model, lowres, msi=msi, progress=lambda _, what: told.append(what))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)
    assert told == ["rows 0 to 10 of 40", "rows 10 to 20 of 40", "rows 20 to 30 of 40", "rows 30 to 40 of 40", "done"]
    msi[1, 2, 70, 3] = float("inf")
    with pytest.raises(ValueError, match="the MSI holds NaN or infinite pixels"):
        super_resolve(model, lowres, msi=msi)


def test_its_memory_reach_and_rank() -> None:
    model = sharpener()
    said = memory(model, 40, 30)
    assert said.blocks == 3 * 4 * 8 * 40 * 30
    assert said.output == 4 * 6 * 4 * 40 * 30
    assert reach(model) == 3
    report = rank_report(model, size=(3, 4))
    assert report.matrix == (24, 8 * 25)
    assert report.macs.total == model.macs(3, 4)


def test_its_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    report = export_onnx(sharpener(), tmp_path / "net.onnx")
    assert len(report.checked) == 5
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert properties["kind"] == "sharpener"
    assert json.loads(properties["config"]) == {"bands": 6, "scale": 2, "channels": 8}


def test_its_commands(tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    pytest.importorskip("rich", reason="rich is not installed")
    from lkcanet.cli import build_app
    from lkcanet.data import read_scene, write_scene

    scene = demo_scene((20, 24), 6)
    write_scene(tmp_path / "lr.npy", scene)
    save_model(sharpener(), tmp_path / "net.safetensors")
    app, run = build_app(), testing.CliRunner().invoke
    made = run(app, ["super-resolve", f"{tmp_path}/lr.npy", f"{tmp_path}/sr.npy", "-c", f"{tmp_path}/net.safetensors"])
    assert made.exit_code == 0, made.output
    assert "note: sr.npy takes about " in made.stderr
    expected = super_resolve(load_model(tmp_path / "net.safetensors"), read_scene(tmp_path / "lr.npy"))
    assert (read_scene(tmp_path / "sr.npy").pixels == expected.pixels).all()
    ranks = run(app, ["rank", f"{tmp_path}/net.safetensors", "--json"])
    assert json.loads(ranks.stdout)["networks"][0]["matrix"] == [24, 200]
