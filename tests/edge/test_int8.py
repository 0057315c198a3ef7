"""Files whose products are of 8-bit whole numbers: near float32, the same bits everywhere, damaged ones refused."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lkcanet.deploy.edge import export_edge
from tests.lkops import isas

from .conftest import ROOT, networks

NAMES = ("lkca_net", "lkca_lr", "rank", "lkca_res")


@pytest.fixture(scope="module")
def int8_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("int8")
    paths = {name: folder / f"{name}.lkops" for name in NAMES}
    for name, path in paths.items():
        export_edge(networks()[name], path, dtype="int8", check=False)
    return paths


def image(bands: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(5).random((bands, *shape), np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_near_float32_on_any_threads(name: str, lkedge: Any, files: Any, int8_files: dict[str, Path]) -> None:
    net, exact = lkedge.load(int8_files[name], threads=1), lkedge.load(files[name, "float32"])
    rounded = lkedge.load(files[name, "bfloat16"])
    assert net.dtype == "int8"
    assert net.parameters == exact.parameters
    assert net.file_bytes < rounded.file_bytes
    lowres = image(net.bands, 13, 18)
    made, truth = net(lowres), exact(lowres)
    error = np.abs(made - truth)
    assert error.max() > 0
    assert np.sqrt((error**2).mean()) < 0.02 * truth.std()
    assert not np.array_equal(made, rounded(lowres))
    for threads in (2, 3, 4):
        assert np.array_equal(lkedge.load(int8_files[name], threads=threads)(lowres), made)
    batch = net(np.stack([lowres, lowres[:, ::-1]]))
    assert np.array_equal(batch[0], made)
    strips = np.full_like(made, np.nan)

    def put(first: int, strip: np.ndarray) -> None:
        strips[:, first : first + strip.shape[1]] = strip

    net.strips(lowres, put, rows=4)
    assert np.array_equal(strips, made)


def test_an_image_of_zeros(lkedge: Any, int8_files: dict[str, Path]) -> None:
    """No step has any size where all numbers are 0."""
    made = lkedge.load(int8_files["lkca_lr"])(np.zeros((6, 5, 7), np.float32))
    assert np.isfinite(made).all()


SCRIPT = """
import sys
import numpy as np, lkedge
net = lkedge.load(sys.argv[1], threads=2)
np.save(sys.argv[2], net(np.load(sys.argv[3])))
print(lkedge.instruction_set())
"""


@pytest.mark.parametrize("isa", ["portable"])
def test_other_instruction_sets(isa: str, built: Path, lkedge: Any, int8_files: Any, tmp_path: Path) -> None:
    """Without instructions for it; features differ in their last bits, and here and there a whole number by one."""
    if reason := isas.why_not(isa):
        pytest.skip(reason)
    lowres = image(6, 9, 21)
    np.save(tmp_path / "lowres.npy", lowres)
    env = {**os.environ, "LKOPS_CPU_ISA": isa, "PYTHONPATH": str(built)}
    words = [str(int8_files["lkca_lr"]), str(tmp_path / "image.npy"), str(tmp_path / "lowres.npy")]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [isa]
    expected = lkedge.load(int8_files["lkca_lr"])(lowres)
    assert np.sqrt(((np.load(tmp_path / "image.npy") - expected) ** 2).mean()) < 0.01 * expected.std()


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0])
def test_scales_that_are_none(scale: float, lkedge: Any, int8_files: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(int8_files["lkca_lr"].read_bytes())
    tensors, operators = struct.unpack_from("<2I", data, 36)
    (index,) = struct.unpack_from("<I", data, 64 + 32 * tensors + 128 * (operators - 1) + 104)
    (offset,) = struct.unpack_from("<Q", data, 64 + 32 * index)
    struct.pack_into("<f", data, offset + 4, scale)
    struct.pack_into("<I", data, 12, zlib.crc32(data[16:]))
    (tmp_path / "net.lkops").write_bytes(data)
    with pytest.raises(ValueError, match=rf"operator {operators - 1}: scale 1 is .*, not finite and above 0"):
        lkedge.load(tmp_path / "net.lkops")


def test_export_measures_the_loss(lkedge: Any, tmp_path: Path) -> None:
    model = networks()["lkca_res"]
    scene = torch.rand(4, 24, 32, generator=torch.Generator().manual_seed(1))
    report = export_edge(model, tmp_path / "net.lkops", dtype="int8", scene=scene)
    loss = report.loss
    assert loss is not None
    assert report.checked == ()
    assert loss.psnr_between > 25 > loss.psnr_float32
    assert 0 < loss.sam_between < 5 < loss.sam_float32
    assert loss.psnr == pytest.approx(loss.psnr_float32, abs=0.3)
    assert loss.sam == pytest.approx(loss.sam_float32, abs=0.3)
