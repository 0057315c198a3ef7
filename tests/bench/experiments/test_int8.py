"""What bfloat16 and int8 lose, as a table: of each file, on each scene, against float32."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.experiments import int8
from lkcanet.data import scene_from_array
from lkcanet.models import LKCANet


def test_differences_of_every_file_on_every_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = LKCANet(5, 2, 16, 1, 1, reduction=8).eval()
    folded = network.fold().eval()
    pixels = np.random.default_rng(0).random((5, 8, 12), np.float32)
    scenes = [
        scene_from_array(pixels, peak=1.0, name="a"),
        scene_from_array(pixels[:, ::-1].copy(), peak=1.0, name="b"),
    ]

    def load(file: Path) -> Any:
        assert file.is_file()
        error = 0.0 if file.stem == "bfloat16" else 0.25
        return lambda lowres: folded(torch.from_numpy(lowres)).detach().numpy() + np.float32(error)

    monkeypatch.setitem(sys.modules, "lkedge", SimpleNamespace(load=load))
    rows = int8.losses({"net": network}, scenes)
    assert [(row["network"], row["dtype"], row["scene"]) for row in rows] == [
        ("net", dtype, scene) for dtype in ("bfloat16", "int8") for scene in ("a", "b")
    ]
    assert all(row["mpsnr_change"] == row["sam_change"] == 0 for row in rows[:2])
    assert all(row["mpsnr_change"] < -0.1 for row in rows[2:])
    text = int8.markdown({"environment": {"cpu": "a CPU"}, "rows": rows})
    figures = f"{rows[2]['mpsnr']:.3f} | {rows[2]['sam']:.3f} | {rows[2]['mpsnr_change']:+.3f}"
    assert f"| net | a | int8 | {figures} | " in text
