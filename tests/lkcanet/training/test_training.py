"""Training: it learns, is reproducible, never reads the test region, and stops cleanly whatever ends it."""

import csv
import dataclasses
import errno
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import Split, SuperResolutionPatches, demo_scene, region_split
from lkcanet.data.scenes import Scene
from lkcanet.models import LKCANet, lkca_lr, load_model, load_model_and_extra
from lkcanet.training import TrainOptions, train

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return demo_scene((96, 96), 8, seed=3)


def split_of(scene: Scene, patch: int = 24, **options: object) -> Split:
    return region_split(scene.pixels.shape, ":,64:", **{"patch": patch, "stride": 8, **options})


def network(bands: int = 8, seed: int = 0, **options: object) -> LKCANet:
    torch.manual_seed(seed)
    return LKCANet(bands, 2, 16, 1, 1, **{"reduction": 8, **options})


def run(scene: Scene, out: Path, model: LKCANet | None = None, **options: object):
    given = {"steps": 4, "batch_size": 2, "validate_every": 2, "progress": False, **options}
    return train(model or network(), scene, split_of(scene), TrainOptions(**given), out)


def weights(path: Path) -> torch.Tensor:
    return weights_of(load_model(path))


def weights_of(model: LKCANet) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in model.state_dict().values()])


def test_it_learns_and_beats_bicubic(scene: Scene, tmp_path: Path) -> None:
    result = run(scene, tmp_path, steps=120, batch_size=4, validate_every=40, learning_rate=5e-3, log_every=1)
    assert result.validation["mpsnr"] > result.bicubic["mpsnr"] + 0.1
    assert result.validation["sam"] < result.bicubic["sam"]
    assert result.validation["loss"] < result.bicubic["loss"]
    assert [entry["step"] for entry in result.history] == [0, 40, 80, 120]
    assert (result.steps, result.ended_by) == (120, "steps")
    assert result.best_step in (40, 80, 120)
    with result.log.open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    losses = [float(row["loss"]) for row in rows]
    assert len(losses) == 120
    assert sum(losses[-40:]) < sum(losses[:40])
    assert [int(row["step"]) for row in rows] == list(range(1, 121))
    epochs = [int(row["epoch"]) for row in rows]
    samples = 8 * split_of(scene).counts["train"]
    assert epochs == [step * 4 // samples for step in range(120)]
    assert epochs[-1] >= 1
    for row in rows:
        total = float(row["l1"]) + 0.5 * float(row["sam_loss"]) + 0.1 * float(row["gradient"])
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 5e-3
    assert rates[-1] == pytest.approx(2e-4, rel=0.3)


def test_checkpoints_say_where_they_come_from(scene: Scene, tmp_path: Path) -> None:
    model = network()
    result = run(scene, tmp_path / "new" / "run", model, steps=3)
    assert sorted(path.name for path in result.best.parent.iterdir()) == [
        "best.safetensors",
        "last.safetensors",
        "metrics.csv",
        "state.safetensors",
    ]
    trained, extra = load_model_and_extra(result.last)
    assert extra["peak"] == scene.peak
    assert extra["scene"]["shape"] == [8, 96, 96]
    assert len(extra["scene"]["wavelengths"]) == 8
    assert extra["split"]["test"] == "0:96,64:96"
    assert extra["split"]["validation"] == str(split_of(scene).validation)
    assert extra["options"]["sam_weight"] == 0.5
    assert extra["step"] == 3  # validated after the last step though it is odd
    assert extra["validation"]["mpsnr"] == result.history[-1]["mpsnr"]
    x = torch.rand(1, 8, 5, 5)
    assert torch.equal(model(x), trained(x))  # the given network holds the last step, in eval mode
    assert not model.training


def test_validation_scores_are_those_of_the_validation_block(scene: Scene, tmp_path: Path) -> None:
    from lkcanet.data import bicubic_downsample, bicubic_upsample
    from lkcanet.evaluation.metrics import mpsnr, sam

    result = run(scene, tmp_path, steps=1)
    block = split_of(scene).validation
    assert block is not None
    target = torch.tensor(scene.pixels[:, block.top : block.bottom, block.left : block.right])[None]
    target = target[..., : target.shape[2] // 2 * 2, : target.shape[3] // 2 * 2]
    bicubic = bicubic_upsample(bicubic_downsample(target, 2), 2)
    assert result.bicubic["mpsnr"] == pytest.approx(mpsnr(bicubic, target), abs=1e-6)
    assert result.bicubic["sam"] == pytest.approx(sam(bicubic, target), abs=1e-4)


def test_one_seed_gives_one_result(scene: Scene, tmp_path: Path) -> None:
    handler, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    first = weights(run(scene, tmp_path / "a", network(drop_path=0.3), threads=1).last)
    torch.rand(5)  # the state of the global generator must not matter
    again = weights(run(scene, tmp_path / "b", network(drop_path=0.3), threads=1).last)
    other = weights(run(scene, tmp_path / "c", network(drop_path=0.3), threads=1, seed=1).last)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert signal.getsignal(signal.SIGINT) == handler
    assert torch.get_num_threads() == threads


def test_workers_change_nothing_but_time(scene: Scene, tmp_path: Path) -> None:
    alone = weights(run(scene, tmp_path / "a", threads=1, steps=2).last)
    helped = weights(run(scene, tmp_path / "b", threads=1, steps=2, workers=1).last)
    assert torch.equal(alone, helped)


def test_the_global_generator_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    model, state = network(), torch.get_rng_state()
    run(scene, tmp_path, model, steps=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("poison", [np.nan, 1e30])
def test_the_test_region_is_never_read(scene: Scene, tmp_path: Path, poison: float) -> None:
    clean = run(scene, tmp_path / "clean", threads=1)
    pixels = scene.pixels.copy()
    pixels[:, :, 64:] = poison
    poisoned = run(dataclasses.replace(scene, pixels=pixels), tmp_path / "poisoned", threads=1)
    assert torch.equal(weights(clean.last), weights(poisoned.last))
    assert clean.history == poisoned.history
    pixels[:, :60] *= 0.9  # and where training pixels change, the result does
    changed = run(dataclasses.replace(scene, pixels=pixels), tmp_path / "changed", threads=1)
    assert not torch.equal(weights(clean.last), weights(changed.last))


def test_nan_in_the_training_region_is_found_before_training(scene: Scene, tmp_path: Path) -> None:
    pixels = scene.pixels.copy()
    pixels[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match="training patch at row 0, column 0 holds NaN"):
        run(dataclasses.replace(scene, pixels=pixels), tmp_path)
    pixels = scene.pixels.copy()
    pixels[3, 95, 2] = np.inf
    with pytest.raises(ValueError, match="validation block holds NaN"):
        run(dataclasses.replace(scene, pixels=pixels), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_with_its_step(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss is .* at step [2-9]"):
        run(scene, tmp_path, steps=9, validate_every=100, learning_rate=1e30)
    assert weights(tmp_path / "last.safetensors").isfinite().all()


def test_a_full_disk_leaves_the_checkpoints_of_before(scene: Scene, tmp_path: Path, monkeypatch) -> None:
    from lkcanet.models import checkpoints

    whole, calls = checkpoints.atomic_path, []

    class FullDisk:
        """The temporary file takes half of the data, as on a disk that fills up."""

        def __init__(self, path: Path) -> None:
            self.path = path

        def write_bytes(self, data: bytes) -> None:
            calls.append(self.path)
            self.path.write_bytes(data if len(calls) <= 2 else data[: len(data) // 2])
            if len(calls) > 2:
                raise OSError(errno.ENOSPC, "No space left on device")

    class Opened:
        def __init__(self, path: Path) -> None:
            self.context = whole(path)

        def __enter__(self) -> FullDisk:
            return FullDisk(self.context.__enter__())

        def __exit__(self, *error: object):
            return self.context.__exit__(*error)

    monkeypatch.setattr(checkpoints, "atomic_path", Opened)
    with pytest.raises(OSError, match="No space left"):
        run(scene, tmp_path)
    assert len(calls) == 3
    _, extra = load_model_and_extra(tmp_path / "last.safetensors")
    assert extra["step"] == 0
    names = {"best.safetensors", "last.safetensors", "metrics.csv", "state.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_checkpoints_of_another_run_are_not_replaced_unasked(scene: Scene, tmp_path: Path) -> None:
    first = run(scene, tmp_path, steps=1)
    before = first.last.read_bytes()
    with pytest.raises(FileExistsError, match="of another run"):
        run(scene, tmp_path, steps=1)
    assert first.last.read_bytes() == before
    options = TrainOptions(steps=2, batch_size=2, progress=False)
    train(network(), scene, split_of(scene), options, tmp_path, overwrite=True)
    assert load_model_and_extra(first.last)[1]["step"] == 2


def test_the_clock_ends_a_run_with_the_learning_rate_down(scene: Scene, tmp_path: Path) -> None:
    result = run(scene, tmp_path, steps=None, max_minutes=0.03, log_every=1, validate_every=1000)
    assert result.ended_by == "time"
    assert 1.8 <= result.seconds < 20
    with result.log.open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file) if row["learning_rate"]]
    assert len(rates) == result.steps
    assert rates[-1] < 0.3 * rates[0]


def test_bfloat16_trains(scene: Scene, tmp_path: Path) -> None:
    result = run(scene, tmp_path, steps=2, precision="bf16-mixed", gradient_clip=0.5)
    assert weights(result.last).dtype == torch.float32
    assert result.history[-1]["loss"] != result.bicubic["loss"]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weights_of_another_type_train(scene: Scene, tmp_path: Path, precision: str) -> None:
    result = run(scene, tmp_path, steps=2, precision=precision)
    assert result.steps == 2
    assert result.bicubic["mpsnr"] > 20
    assert (weights(result.last) != weights_of(network())).any()


def test_batches_are_full_and_pass_over_every_sample() -> None:
    from lkcanet.training.batches import Batches

    batches = list(Batches(7, 4, 7, seed=0))
    assert [len(batch) for batch in batches] == [4] * 7
    order = [index for batch in batches for index in batch]
    assert all(sorted(order[start : start + 7]) == list(range(7)) for start in range(0, 28, 7))
    assert order[:7] != order[7:14]
    assert list(Batches(7, 4, 7, seed=0)) == batches
    assert list(Batches(7, 4, 7, seed=1)) != batches
    assert len(next(iter(Batches(3, 8, 1, seed=0)))) == 8  # fewer samples than a batch


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_cached_patches_are_those_of_the_data_package(scene: Scene, monkeypatch, limit: int) -> None:
    from lkcanet.training.batches import CachedPatches

    monkeypatch.setattr(CachedPatches, "LIMIT", limit)
    origins = split_of(scene).train_origins[:3]
    expected = SuperResolutionPatches(scene, scale=2, lr_size=12, origins=origins, augment="enumerate")
    cached = CachedPatches(SuperResolutionPatches(scene, scale=2, lr_size=12, origins=origins), 8)
    assert len(cached) == len(expected) == 24
    for _ in range(2):  # the second time from the cache
        for index in range(24):
            for ours, theirs in zip(cached[index], expected[index], strict=True):
                assert torch.equal(ours, theirs)
    assert len(CachedPatches(cached.patches, 1)) == 3
    rotated = CachedPatches(cached.patches, 4)  # without reflections
    assert len(rotated) == 12
    for patch in range(3):
        for turns in range(4):
            for image, plain in zip(rotated[4 * patch + turns], cached[8 * patch], strict=True):
                assert torch.equal(image, torch.rot90(plain, turns, (-2, -1)))
    assert len(cached.lowres) == (3 if limit else 0)


def test_steps_of_a_run() -> None:
    assert TrainOptions(steps=7).total_steps(100) == 7
    assert TrainOptions(epochs=2, batch_size=8).total_steps(100) == 25
    assert TrainOptions(epochs=2, batch_size=8, max_minutes=1).total_steps(100) == 25
    assert TrainOptions(max_minutes=1).total_steps(100) is None
    assert TrainOptions(batch_size=10).total_steps(100) == 1000


def test_the_schedule_is_half_a_cosine() -> None:
    options = TrainOptions()
    assert [options.rate(f) for f in (0, 0.5, 1, 7)] == pytest.approx([2e-3, 1.1e-3, 2e-4, 2e-4])
    assert options.rate(0.25) == pytest.approx(2e-4 + 0.9e-3 * (1 + 0.5**0.5))
    counts = Counter(TrainOptions(learning_rate=1e-3, final_learning_rate=1e-3).rate(f) for f in (0, 0.3, 1))
    assert list(counts) == [1e-3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5, "epochs": 5}, "give steps or epochs, not both"),
        ({"steps": 0}, "steps must be a whole number, 1 or more, got 0"),
        ({"epochs": 1.5}, r"epochs must be a whole number, 1 or more, got 1\.5"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"validate_every": None}, "validate_every must be a whole number"),
        ({"seed": -1}, "seed must be a whole number, 0 or more"),
        ({"workers": True}, "workers must be a whole number"),
        ({"threads": 0}, "threads must be a whole number, 1 or more"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive finite number, got nan"),
        ({"learning_rate": 1e-4}, r"final_learning_rate must be at most learning_rate, 0\.0001; got 0\.0002"),
        ({"max_minutes": 0}, "max_minutes must be a positive finite number"),
        ({"gradient_clip": -1.0}, "gradient_clip must be a positive"),
        ({"sam_weight": -0.5}, r"sam_weight must be a finite number, 0 or more, got -0\.5"),
        ({"psnr_weight": float("inf")}, "psnr_weight must be a finite number, 0 or more, got inf"),
        ({"precision": "half"}, "precision must be one of 32-true"),
        ({"monitor": "sam"}, "monitor must be one of mpsnr, loss; got 'sam'"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainOptions(**options)


def test_parts_that_do_not_fit_each_other(scene: Scene, tmp_path: Path) -> None:
    options = TrainOptions(steps=1, progress=False)
    with pytest.raises(ValueError, match="the network takes 9 bands, the scene 'demo' has 8"):
        train(network(9), scene, split_of(scene), options, tmp_path)
    with pytest.raises(ValueError, match="split is of a scene of"):
        train(network(), demo_scene((96, 104), 8), split_of(scene), options, tmp_path)
    with pytest.raises(ValueError, match=r"split\.patch must be a multiple of the network's scale, 2; got 23"):
        train(network(), scene, split_of(scene, patch=23), options, tmp_path)
    with pytest.raises(ValueError, match="needs a validation block"):
        train(network(), scene, split_of(scene, validation=0), options, tmp_path)
    with pytest.raises(ValueError, match="upsample_groups must divide"):
        lkca_lr(9, 3)
    assert list(tmp_path.iterdir()) == []


def test_lightning_is_needed_by_train_only(scene: Scene, tmp_path: Path, monkeypatch) -> None:
    code = "import sys, lkcanet.training, lkcanet.inference; assert 'lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    monkeypatch.setitem(sys.modules, "lightning", None)
    for name in [name for name in sys.modules if name.startswith("lightning.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"lightning is not installed; .*pip install lkops\[train\]"):
        run(scene, tmp_path / "run")
    assert not (tmp_path / "run").exists()
