"""SAM above a floor: in the metrics, and what the commands say and take."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lkcanet.data import bicubic_downsample, bicubic_upsample, demo_scene, write_scene
from lkcanet.evaluation import metrics
from lkcanet.models import LKCANet, load_model_and_extra, save_model
from lkcanet.training import TrainOptions


class TestScores:
    def scene(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prediction, target, and which pixels are above 0.1."""
        rng = np.random.default_rng(0)
        x = rng.uniform(0.2, 1, (4, 10, 12))
        dark = np.zeros((10, 12), bool)
        dark[2:5, 3:9] = True
        x[:, dark] *= 0.05
        return x + rng.normal(0, 0.02, x.shape), x, ~dark

    def test_sam_above_counts_bright_pixels_only(self) -> None:
        y, x, bright = self.scene()
        found = metrics.evaluate(y, x, 2, floor=0.1)
        cosine = (x * y).sum(0) / np.sqrt(np.square(x).sum(0) * np.square(y).sum(0))
        angle = np.degrees(np.arccos(cosine))
        assert found["sam_above"] == pytest.approx(angle[bright].mean(), rel=1e-12)
        assert found["sam"] == pytest.approx(angle.mean(), rel=1e-12)
        assert found["sam"] > 2 * found["sam_above"]
        assert metrics.sam(y, x, floor=0.1) == found["sam_above"]
        assert metrics.sam(y, x) == found["sam"]
        plain = metrics.evaluate(y, x, 2)
        assert {key: value for key, value in found.items() if key != "sam_above"} == plain

    def test_the_floor_is_of_the_target_and_exclusive(self) -> None:
        _, x, _ = self.scene()
        x = np.full_like(x, 0.25)
        x[:, :5] = 0.5
        y = x + np.linspace(0, 0.1, 4)[:, None, None]
        y[:, :5] *= 1e-3  # dark in the prediction alone
        bright = metrics.sam(y[:, :5], x[:, :5])
        assert metrics.sam(y, x, floor=0.25) == pytest.approx(bright, rel=1e-12)
        assert metrics.sam(y, x, floor=0.2499) == pytest.approx(metrics.sam(y, x), rel=1e-12)

    def test_no_pixel_above_is_nan_and_said(self) -> None:
        y, x, _ = self.scene()
        with pytest.warns(RuntimeWarning, match="1 of 1 images have no pixel above the floor of 5"):
            found = metrics.evaluate(y, x, 2, floor=5)
        assert math.isnan(found["sam_above"])
        assert math.isfinite(found["sam"])

    def test_invalid_pixels_count_in_neither(self) -> None:
        y, x, bright = self.scene()
        valid = np.ones_like(bright)
        valid[:, 8:] = False
        found = metrics.evaluate(y, x, 2, valid=valid, floor=0.1)
        with pytest.warns(RuntimeWarning, match="window"):  # MSSIM's: lakes are in all of them
            expected = metrics.evaluate(y, x, 2, valid=valid & bright)["sam"]
        assert found["sam_above"] == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("floor", [-1, math.nan, math.inf, True])
    def test_what_is_no_floor_is_named(self, floor: float) -> None:
        y, x, _ = self.scene()
        for call in (lambda: metrics.evaluate(y, x, 2, floor=floor), lambda: metrics.sam(y, x, floor)):
            with pytest.raises(ValueError, match=r"floor is .*, expected a finite number, 0 or more"):
                call()


class TestCommands:
    @pytest.fixture(autouse=True)
    def needed(self) -> None:
        for package in ("typer", "rich", "safetensors", "scipy", "lightning"):
            pytest.importorskip(package, reason=f"{package} is not installed")

    def lkca(self, *arguments: object) -> Any:
        from typer.testing import CliRunner

        from lkcanet.cli import build_app

        return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])

    def test_evaluate_says_both(self, tmp_path: Path) -> None:
        scene = demo_scene((48, 64), 8, seed=1)
        write_scene(tmp_path / "scene.npz", scene)
        for name, options in (("new", {"floor": 0.2}), ("old", {})):
            save_model(
                LKCANet(8, 2, 16, 1, 1, reduction=8), tmp_path / f"{name}.safetensors",
                extra={"peak": scene.peak, "options": options},
            )  # fmt: skip
        x = scene.tensor()
        image = bicubic_upsample(bicubic_downsample(x, 2), 2)
        for given, floor in (
            (["-c", tmp_path / "new.safetensors"], 0.2),
            (["-c", tmp_path / "old.safetensors"], TrainOptions().floor),
            (["-c", tmp_path / "new.safetensors", "--floor", 0.3], 0.3),
            (["--scale", 2], TrainOptions().floor),
            (["--scale", 2, "--floor", 0], 0),
        ):
            result = self.lkca("evaluate", tmp_path / "scene.npz", *given, "--json")
            assert result.exit_code == 0, result.output
            report = json.loads(result.stdout)
            assert report["floor"] == floor
            row = report["scores"][0]
            assert row["method"] == "bicubic"
            assert row["sam_above"] == pytest.approx(metrics.sam(image, x, floor=floor), rel=1e-6)
            assert row["sam"] == pytest.approx(metrics.sam(image, x), rel=1e-6)
        said = self.lkca("evaluate", tmp_path / "scene.npz", "--scale", 2, "--floor", 0.3).stdout
        assert "root mean square over the bands is above 0.3" in " ".join(said.split())
        assert said.rstrip().endswith(f"{metrics.sam(image, x, floor=0.3):.3f}")
        plain = self.lkca("evaluate", tmp_path / "scene.npz", "--scale", 2, "--floor", 0).stdout
        assert "root mean square" not in plain  # it would be the same once more
        wrong = self.lkca("evaluate", tmp_path / "scene.npz", "--scale", 2, "--floor", -1)
        assert wrong.exit_code != 0
        assert "--floor must be a finite number, 0 or more, got -1" in wrong.stderr

    def test_train_and_compress_take_it(self, tmp_path: Path) -> None:
        scene = demo_scene((48, 64), 8, seed=1)
        write_scene(tmp_path / "scene.npz", scene)
        small = ["--scale", 2, "--network", "lkca_net", "--channels", 16, "--blocks", 1, "--patch", 8, "--steps", 1]
        run = ["train", tmp_path / "scene.npz", "--test", ":,44:", *small, "--batch-size", 2]
        trained = self.lkca(*run, "--floor", 0.05, "--out", tmp_path / "run")
        assert trained.exit_code == 0, trained.output
        assert load_model_and_extra(tmp_path / "run" / "last.safetensors")[1]["options"]["floor"] == 0.05
        compress = ["compress", tmp_path / "run" / "last.safetensors", tmp_path / "small.safetensors", "--groups", 2]
        aligned = [
            "--scene",
            tmp_path / "scene.npz",
            "--align",
            1,
            "--patch",
            8,
            "--batch-size",
            2,
            "--json",
            "--overwrite",
        ]
        losses = []
        for floor in ((), ("--floor", 0.05), ("--floor", 0.3)):
            result = self.lkca(*compress, *aligned, *floor)
            assert result.exit_code == 0, result.output
            losses.append(json.loads(result.stdout)["compression"]["alignment"]["first"]["sam_loss"])
        assert losses[0] == losses[1] > losses[2]
        alone = self.lkca(*compress, "--floor", 0.1, "--overwrite")
        assert "--floor goes with --align" in alone.stderr
