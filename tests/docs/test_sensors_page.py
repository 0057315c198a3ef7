"""The command lines of the page of sensors run, on files of the names that it gives."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..lkcanet.data import sensor_files
from .pages import ROOT, command_lines

testing = pytest.importorskip("typer.testing", reason="typer is not installed")
for package in ("h5py", "h5netcdf", "netCDF4", "pyproj", "rasterio", "spectral", "imageio", "scipy"):
    pytest.importorskip(package, reason=f"{package} is not installed")

SIZE = (24, 20)
LINES = [words for words in command_lines(ROOT / "docs" / "sensors.md") if "SCENE" not in words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import h5py
    import imageio.v3 as imageio
    import netCDF4
    import scipy.io
    from spectral.io import envi

    folder = tmp_path_factory.mktemp("sensors")
    cube = np.random.default_rng(0).integers(1, 9000, (5, *SIZE)).astype(np.uint16)
    for name in ("enmap", "desis", "hyperion", "landsat", "balloons_ms"):
        (folder / name).mkdir()
    sensor_files.enmap(folder / "enmap", bands=34, size=SIZE)
    sensor_files.desis(folder / "desis", bands=12, size=SIZE)
    sensor_files.hyperion(folder / "hyperion", size=SIZE)
    sensor_files.prisma(folder / "prisma.he5", rows=24, columns=20)
    sensor_files.emit(folder / "emit.nc", rows=24, columns=20)
    sensor_files.geotiff(folder / "sentinel2.tif", cube)
    for number, band in enumerate(cube, 1):
        sensor_files.geotiff(folder / "landsat" / f"LC08_SR_B{number}.TIF", band[None])
        imageio.imwrite(folder / "balloons_ms" / f"balloons_ms_{number:02}.png", band)
    facts = {"wavelength": np.linspace(400, 900, 5).tolist(), "wavelength units": "Nanometers", "bbl": [1, 1, 0, 1, 1]}
    envi.save_image(str(folder / "scene.hdr"), cube.transpose(1, 2, 0), metadata=facts, interleave="bil")
    with netCDF4.Dataset(folder / "cube.nc", "w") as file:
        for name, length in zip(("band", "y", "x"), cube.shape, strict=True):
            file.createDimension(name, length)
        file.createVariable("radiance", "u2", ("band", "y", "x"))[:] = cube
    with h5py.File(folder / "cube.h5", "w") as file:
        file["cubes/radiance"], file["cubes/dark"] = cube.transpose(1, 2, 0), cube.transpose(1, 2, 0) // 9
    held = {"data": cube.transpose(1, 2, 0).astype(float), "gt": np.eye(24)}
    scipy.io.savemat(folder / "scene.mat", {"S": held})
    scipy.io.savemat(folder / "pixels.mat", {"Y": cube.reshape(5, -1).astype(float), "A": np.ones((5, 3))})
    return folder


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_it_runs(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkcanet.cli import build_app
    from lkcanet.data import read_scene

    monkeypatch.chdir(folder)
    program, command, *rest = words
    assert program == "lkca"
    result: Any = testing.CliRunner().invoke(build_app(), [command, *rest])
    assert result.exit_code == 0, result.output
    if command == "degrade":
        scale = int(rest[rest.index("--scale") + 1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = read_scene(Path(rest[1]))
        assert made.size == (SIZE[0] // scale, SIZE[1] // scale)


def test_the_page_names_every_sensor() -> None:
    named = {words[2].rstrip("/").partition(".")[0] for words in LINES}
    assert named >= {"enmap", "prisma", "emit", "desis", "hyperion", "sentinel2", "landsat", "scene", "cube"}
