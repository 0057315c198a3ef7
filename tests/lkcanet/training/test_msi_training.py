"""Networks of other kinds train, resume to the bit with all that learns along, and fuse an MSI of the same place."""

import csv
import dataclasses
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import Rect, TrainingRecord, named_response, split_scenes
from lkcanet.data.multispectral import gaussian_downsample, simulate_msi
from lkcanet.data.patches import SuperResolutionPatches, dihedral
from lkcanet.data.scenes import Scene
from lkcanet.evaluation.metrics import mpsnr
from lkcanet.inference import super_resolve
from lkcanet.models import KINDS, LKCANet, load_model, load_model_and_extra, register, save_model
from lkcanet.objectives import HObjective, objective_for
from lkcanet.training import TrainResult, distill, train
from lkcanet.training import state as _state
from lkcanet.training.material import read_material

from .training_helpers import at_step, die, ended, in_child, network, options_of, small_scene, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

from .msi_helpers import ToyMsiNetwork, msi_of, run_toy, toy, toy_objective

FILES = ("best.safetensors", "teacher.safetensors", "last.safetensors")


@pytest.fixture(scope="module")
def straight(scene: Scene, tmp_path_factory) -> Path:
    """A run without interruption."""
    out = tmp_path_factory.mktemp("straight")
    run_toy(scene, out)
    return out


def content(out: Path) -> dict[str, object]:
    """What a run's files hold, to the bit."""
    held: dict[str, object] = {"log": (out / "metrics.csv").read_text()}
    for name in FILES:
        model, extra = load_model_and_extra(out / name)
        held[name] = (model.kind, _state.digest(model.state_dict()), model.config, extra)
    state = _state.read(out / _state.STATE)
    held["state"] = {key: tensor.tolist() for key, tensor in state.objective.items()}
    held["moments"] = {key: entry["exp_avg_sq"].tolist() for key, entry in state.moments.items()}
    return held


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_what_learns_along_learns_and_is_logged(scene: Scene, straight: Path) -> None:
    header = (straight / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[:9] == ["step", "epoch", "learning_rate", "loss", "l1", "teacher_l1", "between", "weight", "half"]
    steps = [row for row in rows(straight) if "loss" in row]
    assert len(steps) == 11
    assert steps[0]["weight"] == pytest.approx(0.899)
    assert steps[2]["weight"] == pytest.approx(0.9, abs=1e-6)  # grown by 0.002 a step, and held
    weight = steps[3]["weight"]
    total = weight * steps[3]["l1"] - weight**2 / 2 + steps[3]["teacher_l1"] + 0.1 * steps[3]["between"]
    assert steps[3]["loss"] == pytest.approx(total, rel=1e-5)
    assert steps[6]["half"] == 0.5 * 6 * 4 / (8 * split_of(scene).counts["train"])
    model, extra = load_model_and_extra(straight / "last.safetensors")
    teacher, told = load_model_and_extra(straight / "teacher.safetensors")
    assert (type(model), model.config["features"], teacher.config["features"]) == (ToyMsiNetwork, 8, 12)
    assert told["step"] == load_model_and_extra(straight / "best.safetensors")[1]["step"] > 0
    for trained, fresh in ((model, toy()), (teacher, toy(1, 12))):
        assert (trained.head.weight - fresh.head.weight).abs().max() > 1e-3
        assert torch.equal(trained.unused.weight, fresh.unused.weight)
        assert trained.gain == 0.25  # a constant that no file holds
    assert extra["objective"] == {"name": "ToyDistillation", "teacher": toy(1, 12).config}
    assert extra["msi"]["shape"] == [2, 64, 64]
    state = _state.read(straight / _state.STATE)
    assert "frozen" not in state.objective
    assert state.objective["steps"] == 11


@pytest.mark.parametrize("step", [2, 6])
def test_a_killed_run_ends_with_the_same_bits(scene: Scene, straight: Path, tmp_path: Path, step: int) -> None:
    def work() -> None:
        at_step(step, die)
        run_toy(scene, tmp_path)

    assert ended(in_child(work)) == -signal.SIGKILL
    # with other weights: those of the state count
    result = run_toy(scene, tmp_path, toy(5), toy_objective(6), resume=True)
    assert result.resumed_from == ((step - 1) // 3 * 3 or None)
    assert content(tmp_path) == content(straight)


@pytest.mark.parametrize("writes", [2, 3, 4, 7])
def test_a_kill_between_two_files_loses_no_companion(scene: Scene, straight: Path, tmp_path: Path, writes: int) -> None:
    """Files come in the order state, best, teacher, last."""

    def work() -> None:
        original, count = Path.replace, [0]

        def hooked(self: Path, target: Path) -> Path:
            count[0] += 1
            if count[0] == writes:
                die()
            return original(self, target)

        Path.replace = hooked  # type: ignore[method-assign]
        run_toy(scene, tmp_path)

    assert ended(in_child(work)) == -signal.SIGKILL
    run_toy(scene, tmp_path, resume=True)
    assert content(tmp_path) == content(straight)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "metrics.csv", "state.safetensors"])


def test_another_run_is_refused(scene: Scene, straight: Path, tmp_path: Path) -> None:
    for name in (*FILES, "metrics.csv", "state.safetensors"):
        (tmp_path / name).write_bytes((straight / name).read_bytes())
    cases = [
        ({"objective": ToyH()}, "objective .*is .*, there it was"),
        ({"psf_sigma": 2.0}, r"option psf_sigma is 2\.0, there it was 1\.0"),
        ({"snr": None}, r"option snr is None, there it was 35\.0"),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=f"not the run to resume: .*{message}"):
            run_toy(scene, tmp_path, resume=True, **given)
    other, msi = small_scene(), msi_of(scene)
    brighter = dataclasses.replace(msi, pixels=msi.pixels * 1.5)
    options = options_of(psf_sigma=1.0, snr=35.0, msi_snr=40.0, monitor="mpsnr")
    with pytest.raises(ValueError, match="not the run to resume: pixels is"):
        train(toy(), other, split_of(other), options, tmp_path, msi=brighter, objective=toy_objective(), resume=True)
    state = _state.read(tmp_path / _state.STATE)
    del state.objective["weight"]
    _state.write(tmp_path / _state.STATE, state)
    with pytest.raises(ValueError, match="what it holds of the objective"):
        run_toy(scene, tmp_path, resume=True)


class ToyH(HObjective):
    def facts(self) -> dict[str, object]:
        return {"objective": {"name": "another"}}


def test_it_learns_to_use_the_msi(scene: Scene, tmp_path: Path) -> None:
    """By the H loss, which is what a kind without an objective gets; and better than without the MSI's pixels."""
    results = []
    for part, blank in (("with", False), ("without", True)):
        msi = msi_of(scene)
        msi = dataclasses.replace(msi, pixels=np.zeros_like(msi.pixels)) if blank else msi
        options = options_of(steps=40, learning_rate=2e-2, validate_every=40, psf_sigma=1.5)
        results.append(train(toy(), scene, split_of(scene), options, tmp_path / part, msi=msi))
    with_msi, without = results
    assert with_msi.validation["mpsnr"] > with_msi.bicubic["mpsnr"] + 1
    assert with_msi.validation["mpsnr"] > without.validation["mpsnr"] + 1
    assert isinstance(objective_for(toy()), HObjective)
    assert (tmp_path / "with" / "metrics.csv").read_text().startswith("step,epoch,learning_rate,loss,l1,sam_loss,grad")
    # inference with the trained network gives what the validation has scored
    from lkcanet.evaluation.metrics import mpsnr

    model, msi, block = load_model(with_msi.last), msi_of(scene), split_of(scene).validation
    assert block is not None
    target, sharp = (torch.tensor(s.pixels[(..., *block.slices)])[None, :, :, :] for s in (scene, msi))
    rows, columns = (length // 2 * 2 for length in target.shape[2:])
    target, sharp = target[..., :rows, :columns], sharp[..., :rows, :columns]
    image = super_resolve(model, gaussian_downsample(target.contiguous(), 2, 1.5), msi=sharp)
    assert mpsnr(image, target) == pytest.approx(with_msi.history[-1]["mpsnr"], abs=1e-5)


def test_patches_of_both_come_from_one_place(scene: Scene) -> None:
    split, msi = split_of(scene), msi_of(scene)
    material = read_material(toy(), [scene], [split], 4, [msi], 1.0)
    patches = material.patches
    turned = SuperResolutionPatches(
        scene, scale=2, lr_size=8, origins=split.train_origins, augment="enumerate", psf_sigma=1.0, msi=msi
    )
    weights = np.repeat(np.eye(2), 4, axis=1) / 4
    for index in (0, 3, len(patches) - 1):
        lowres, reference, sharp = patches[index]
        expected = np.tensordot(weights, reference.numpy(), axes=1)
        assert np.abs(sharp.numpy() - expected).max() < 1e-6
        assert torch.equal(lowres, gaussian_downsample(reference[None], 2, 1.0)[0])
        for element in (1, 6):
            images = turned[8 * index + element]
            for ours, plain in zip(images, (lowres, reference, sharp), strict=True):
                assert torch.equal(ours, dihedral(plain, element))
    valid = np.ones(scene.size, bool)
    valid[split.train_origins[2][0] + 1, split.train_origins[2][1] + 1] = False
    holed = dataclasses.replace(msi, valid=valid)
    assert read_material(toy(), [scene], [split], 4, [holed]).left_out["train"] > 0
    nan = dataclasses.replace(msi, pixels=np.where(valid, msi.pixels, np.float32(np.nan)))
    with pytest.raises(ValueError, match=r"the training patch at row .* holds NaN"):
        read_material(toy(), [scene], [split], 4, [nan])


def test_a_memory_mapped_msi_travels_by_name(scene: Scene, tmp_path: Path) -> None:
    import pickle

    np.save(tmp_path / "msi.npy", msi_of(scene).pixels)
    mapped = dataclasses.replace(msi_of(scene), pixels=np.load(tmp_path / "msi.npy", mmap_mode="c"))
    patches = SuperResolutionPatches(scene, scale=2, lr_size=8, msi=mapped)
    again = pickle.loads(pickle.dumps(patches))
    assert isinstance(again.msi, np.memmap)
    assert torch.equal(again[1].msi, patches[1].msi)


def test_networks_and_msi_that_do_not_fit(scene: Scene, tmp_path: Path) -> None:
    msi, split, options = msi_of(scene), split_of(scene), options_of()
    cases = [
        (toy(), None, "the network fuses an MSI of 2 bands with the scene, and there is none"),
        (network(), msi, r"the network \(lkcanet\) takes no MSI, got 'demo MSI' of 2 bands"),
        (ToyMsiNetwork(8, 3, 2), msi, "the network takes an MSI of 3 bands, 'demo MSI' has 2"),
        (
            toy(),
            dataclasses.replace(msi, pixels=msi.pixels[:, :32, :32].copy()),
            "the MSI must be of 64 x 64 pixels, 2 times the low-resolution image's; 'demo MSI' has 32 x 32",
        ),
    ]
    for model, given, message in cases:
        with pytest.raises(ValueError, match=message):
            train(model, scene, split, options, tmp_path / "run", msi=given)
    with pytest.raises(ValueError, match=r"the student \(toy_msi\) fuses an MSI"):
        distill(toy(), toy(1), scene, split, options, out_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_msi_in_tiles_and_to_a_file(scene: Scene, tmp_path: Path) -> None:
    """The toy's reach is small: in tiles that overlap by more, the image is that of the whole."""
    model, msi = toy().eval(), msi_of(scene)
    lowres = scene.shrunk(gaussian_downsample(scene.tensor(), 2, 1.0)[0].numpy(), 2)
    whole = super_resolve(model, lowres, msi=msi)
    with torch.no_grad():
        assert np.abs(whole.pixels - model(lowres.tensor(), msi.tensor())[0].numpy()).max() < 1e-6
    assert np.abs(super_resolve(model, lowres, msi=msi, tile=(20, 24), overlap=16).pixels - whole.pixels).max() < 1e-6
    assert np.abs(super_resolve(model, lowres, msi=msi, out=tmp_path / "sr.npy").pixels - whole.pixels).max() < 1e-7
    assert np.abs(super_resolve(model, lowres.pixels, msi=msi.pixels) - whole.pixels).max() < 1e-7
    small = dataclasses.replace(msi, pixels=msi.pixels[:, :62].copy(), valid=None)
    for given, message in ((None, "give msi"), (small, r"msi must be of shape \(1, 2, 64, 64\)")):
        with pytest.raises(ValueError, match=message):
            super_resolve(model, lowres, msi=given)
    with pytest.raises(TypeError, match="msi must be a Scene as the image is, got ndarray"):
        super_resolve(model, lowres, msi=msi.pixels)
    with pytest.raises(ValueError, match="takes no MSI"):
        super_resolve(network(), lowres, msi=msi)
    broken = dataclasses.replace(msi, pixels=np.full_like(msi.pixels, np.nan))
    with pytest.raises(ValueError, match="the MSI holds NaN"):
        super_resolve(model, lowres, msi=broken)


def test_checkpoints_of_every_kind(tmp_path: Path) -> None:
    safetensors, torch_files = pytest.importorskip("safetensors"), pytest.importorskip("safetensors.torch")
    path, model = tmp_path / "net.safetensors", toy(3)
    save_model(model, path, extra={"peak": 2.0})
    loaded, extra = load_model_and_extra(path)
    assert (type(loaded), loaded.config, extra, loaded.gain) == (ToyMsiNetwork, model.config, {"peak": 2.0}, 0.25)
    x, msi = torch.rand(1, 8, 4, 4), torch.rand(1, 2, 8, 8)
    assert torch.equal(loaded(x, msi), model.eval()(x, msi))

    def changed(**values: str | None) -> None:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata, state = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for key, value in values.items():
            metadata.pop(key) if value is None else metadata.update({key: value})
        (tmp_path / "changed.safetensors").write_bytes(torch_files.save(state, metadata))

    for kind in ("lkcanet", "unknown", None):
        changed(kind=kind)
        with pytest.raises(ValueError, match="is corrupt"):
            load_model(tmp_path / "changed.safetensors")
    changed(kind="unknown", sha256=None)
    with pytest.raises(ValueError, match="its kind is 'unknown', known are lkcanet, "):
        load_model(tmp_path / "changed.safetensors")
    save_model(network(), path)
    changed(kind=None)  # as older versions wrote it: the checksum is theirs
    assert isinstance(load_model(tmp_path / "changed.safetensors"), LKCANet)
    with pytest.raises(ValueError, match=r"must be of a registered kind .*, got Linear"):
        save_model(torch.nn.Linear(1, 1), path)
    assert KINDS["toy_msi"] is ToyMsiNetwork
    with pytest.raises(ValueError, match="kind must be 'other'"):
        register("other", ToyMsiNetwork)

    class Other(ToyMsiNetwork):
        kind = "lkcanet"

    with pytest.raises(ValueError, match="kind 'lkcanet' is taken"):
        register("lkcanet", Other)


def test_many_scenes_with_an_msi_each(scene: Scene, tmp_path: Path) -> None:
    """Made of each through the response, or given; scenes of two sizes, one of which validates."""
    response, small = named_response("average-2"), scene.cropped(Rect(0, 40, 0, 56))
    scenes = [dataclasses.replace(scene, name="large"), dataclasses.replace(small, name="small")]
    splits = split_scenes(scenes, patch=16, stride=9, scale=2, validation="small")
    options = options_of(psf_sigma=1.0, snr=35.0, steps=4)

    def run(out: str, msi: object, **given: bool) -> TrainResult:
        return train(toy(), scenes, splits, options, tmp_path / out, msi=msi, objective=toy_objective(), **given)  # type: ignore[arg-type]

    by_response = run("a", response)
    msis = [simulate_msi(each, response) for each in scenes]
    given = run("b", msis)
    one, other = (load_model(run.last).state_dict() for run in (by_response, given))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert by_response.validation == given.validation
    record = TrainingRecord(load_model_and_extra(by_response.best)[1])
    assert record.response == response
    assert record.extra["msi"]["shape"] == [[2, 64, 64], [2, 40, 56]]
    model = load_model(by_response.best)  # what was validated is the fused scene
    lowres = small.shrunk(gaussian_downsample(small.tensor(), 2, 1.0)[0].numpy(), 2)
    sharp = super_resolve(model, lowres, msi=msis[1])
    assert by_response.validation["mpsnr"] == pytest.approx(mpsnr(sharp.pixels, small.pixels), abs=1e-4)

    material = read_material(toy(), scenes, splits, 4, msis, 1.0)
    for index in (0, len(material.patches) - 1):
        row, column = material.patches.where(index)
        assert isinstance(row, int)
        assert isinstance(column, int)
        (cut,) = material.patches.crop_msi(index)
        assert torch.equal(cut, msis[0].tensor()[0, :, row : row + 16, column : column + 16])
    with pytest.raises(ValueError, match="msi must be of every scene, got 1 for 2 scenes"):
        run("c", msis[:1])
    with pytest.raises(ValueError, match="the MSI must be of 40 x 56 pixels"):
        run("c", [msis[0]] * 2)
    assert run("a", response, resume=True).resumed_from == 4
