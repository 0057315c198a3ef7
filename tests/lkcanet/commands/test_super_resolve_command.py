"""`lkca super-resolve` beyond one scene in memory: batches, tiles, memory, progress."""

import io
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.commands._progress import bar
from lkcanet.data import read_scene, scene_from_array, write_scene
from lkcanet.inference import footprint, super_resolve
from lkcanet.models import LKCANet, load_model, save_model

from .. import command_line

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
lkca = partial(command_line.lkca, "super-resolve")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scenes a, b and c, a broken one, and a network."""
    for seed, name in enumerate("abc"):
        pixels = np.random.default_rng(seed).random((4, 20, 14), np.float32)
        write_scene(tmp_path / f"{name}.npy", scene_from_array(pixels, peak=1.0, name=name))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY nothing")
    torch.manual_seed(0)
    model = LKCANet(4, 2, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, tmp_path / "net.safetensors", extra={"peak": 1.0})
    return tmp_path


def expected(folder: Path, name: str, **options) -> np.ndarray:
    return super_resolve(load_model(folder / "net.safetensors"), read_scene(folder / f"{name}.npy"), **options).pixels


def test_a_batch_goes_on_after_a_failure(folder: Path) -> None:
    scenes = [folder / f"{name}.npy" for name in ("a", "broken", "b")]
    net, out = folder / "net.safetensors", folder / "new" / "results"
    result = lkca(*scenes, "--out-dir", out, "-c", net)
    assert result.exit_code == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.npy", "b.npy"]
    for name in "ab":
        assert np.array_equal(read_scene(out / f"{name}.npy").pixels, expected(folder, name))
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "broken.npy" in errors[0]
    assert errors[1] == f"error: 1 of 3 scenes failed: {folder / 'broken.npy'}"
    assert len(result.stdout.splitlines()) == 2
    # again: nothing is replaced unless that is said
    before = (out / "a.npy").stat().st_mtime_ns
    refused = lkca(folder / "a.npy", folder / "c.npy", "--out-dir", out, "-c", net)
    assert refused.exit_code == 1
    assert "a.npy exists: choose another name, --overwrite or --skip-existing" in refused.stderr
    assert (out / "c.npy").exists()
    skipped = lkca(folder / "a.npy", "--out-dir", out, "-c", net, "--skip-existing", "--json")
    assert skipped.exit_code == 0
    assert json.loads(skipped.stdout) == {"results": [], "failed": [], "skipped": [str(out / "a.npy")]}
    assert (out / "a.npy").stat().st_mtime_ns == before
    replaced = lkca(folder / "a.npy", folder / "broken.npy", "--out-dir", out, "-c", net, "--overwrite", "--json")
    facts = json.loads(replaced.stdout)
    assert (replaced.exit_code, len(facts["results"]), len(facts["failed"])) == (1, 1, 1)
    assert facts["failed"][0]["scene"].endswith("broken.npy")
    assert (out / "a.npy").stat().st_mtime_ns != before


def test_results_in_another_format(folder: Path) -> None:
    result = lkca(
        folder / "a.npy", "--out-dir", folder / "out", "--suffix", ".npz", "-c", folder / "net.safetensors", "--json"
    )
    facts = json.loads(result.stdout)["results"][0]
    assert facts["memory"]["output"] == 4 * 4 * 40 * 28
    assert facts["shape"] == [4, 40, 28]
    assert np.array_equal(read_scene(folder / "out" / "a.npz").pixels, expected(folder, "a"))


def test_envi_data_of_another_header_are_not_replaced(folder: Path) -> None:
    """X.hdr is written with X.img, whose own header may be X.img.hdr."""
    pytest.importorskip("spectral", reason="spectral is not installed")
    data, net = folder / "scene.img", folder / "net.safetensors"
    data.write_bytes(b"somebody's")
    for arguments, message in (
        ([folder / "a.npy", folder / "scene.hdr"], "scene.img exists, and is not the data of"),
        ([folder / "a.npy", folder / "scene.hdr", "--overwrite"], "scene.img exists, and is not the data of"),
        ([data, "--out-dir", folder, "--suffix", ".hdr", "--overwrite"], "scene.hdr would replace the scene"),
    ):
        result = lkca(*arguments, "-c", net)
        assert result.exit_code == 1
        assert message in result.stderr
    assert data.read_bytes() == b"somebody's"
    assert not (folder / "scene.hdr").exists()


def test_what_a_batch_refuses_before_it_starts(folder: Path) -> None:
    net = folder / "net.safetensors"
    (folder / "other").mkdir()
    (folder / "other" / "a.npz").write_bytes((folder / "a.npy").read_bytes())
    for arguments, code, message in (
        ([folder / "a.npy"], 2, "give SCENE and OUT, or scenes and --out-dir FOLDER"),
        ([folder / "a.npy", folder / "b.npy", folder / "c.npy"], 2, "give SCENE and OUT"),
        ([folder / "a.npy", folder / "b.npy"], 1, "b.npy exists: choose another name, --overwrite"),
        ([folder / "a.npy", folder / "other" / "a.npz", "--out-dir", folder / "o"], 1, "would both become"),
        ([folder / "a.npy", "--out-dir", folder], 1, "a.npy would replace the scene"),
        ([folder / "a.npy", "--out-dir", folder / "o", "--suffix", "npy"], 1, "--suffix must be one of .npy"),
        ([folder / "a.npy", "--out-dir", folder / "o", "--overwrite", "--skip-existing"], 2, "not both"),
        ([folder / "a.npy", folder / "x.npy", "--overlap", 3], 1, "--overlap goes with --tile"),
        ([folder / "a.npy", folder / "x.npy", "--tile", "3"], 1, "--tile must be two whole numbers"),
        ([folder / "a.npy", folder / "x.npy", "--tile", "8,8", "--overlap", 8], 1, "overlap must be a whole number"),
    ):
        result = lkca(*arguments, "-c", net)
        assert result.exit_code == code, result.output
        assert message in result.stderr.splitlines()[-1]
        assert result.stdout == ""
    before = {"a.npy", "b.npy", "c.npy", "broken.npy", "net.safetensors", "other"}
    assert {path.name for path in folder.iterdir()} == before


def test_tiles_say_that_the_result_is_another_one(folder: Path) -> None:
    out = folder / "sr.npy"
    result = lkca(folder / "a.npy", out, "-c", folder / "net.safetensors", "--tile", "12,10", "--overlap", 4, "--json")
    assert result.exit_code == 0, result.stderr
    assert "averages over a tile of 12 x 10 instead of the scene: the result is another one" in result.stderr
    assert json.loads(result.stdout)["tile"] == [12, 10]
    pixels = read_scene(out).pixels
    assert np.array_equal(pixels, expected(folder, "a", tile=(12, 10), overlap=4))
    assert not np.allclose(pixels, expected(folder, "a"), atol=1e-5)


def test_memory_is_said_first_and_refused_where_it_can_not_suffice(folder: Path, monkeypatch) -> None:
    arguments = [folder / "a.npy", folder / "sr.npy", "-c", folder / "net.safetensors"]
    needed = 0

    def there(share: float, swap: int = 0) -> None:
        monkeypatch.setattr(footprint, "available", lambda: (int(share * needed), swap))

    result = lkca(*arguments, "--json")
    facts = json.loads(result.stdout)["memory"]
    needed = facts["peak"] - facts["input"]
    assert facts["output"] == 0
    assert result.stderr.startswith("note: sr.npy takes about ")
    assert "are available" in result.stderr
    there(1.01)
    assert "warning" not in lkca(*arguments, "--overwrite").stderr
    (folder / "sr.npy").unlink()
    there(0.9)
    result = lkca(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: sr.npy needs " in result.stderr
    assert "--force starts all the same" in result.stderr
    assert not (folder / "sr.npy").exists()
    there(0.9, needed)
    result = lkca(*arguments)
    assert result.exit_code == 0
    assert "warning: that is more than there is" in result.stderr
    there(0.0)
    result = lkca(*arguments, "--overwrite", "--force")
    assert result.exit_code == 0
    assert "no tile would fit" in result.stderr
    assert np.array_equal(read_scene(folder / "sr.npy").pixels, expected(folder, "a"))
    monkeypatch.setattr(footprint, "available", lambda: None)
    result = lkca(folder / "a.npy", folder / "sr.mat", "-c", folder / "net.safetensors")
    assert result.exit_code == 0
    assert "available" not in result.stderr


def test_a_tile_that_fits_is_proposed(folder: Path, monkeypatch) -> None:
    scene = scene_from_array(np.random.default_rng(0).random((4, 200, 150), np.float32), peak=1.0)
    write_scene(folder / "large.npy", scene)
    model = load_model(folder / "net.safetensors")
    enough = footprint.memory(model, 200, 150, tile=(96, 96), mapped=True)
    monkeypatch.setattr(footprint, "available", lambda: (int((enough.peak - enough.input) / 0.79), 0))
    arguments = [folder / "large.npy", folder / "sr.npy", "-c", folder / "net.safetensors"]
    result = lkca(*arguments)
    assert result.exit_code == 1
    assert "--tile 96,96 would fit" in result.stderr
    result = lkca(*arguments, "--tile", "96,96")
    assert result.exit_code == 0
    assert "warning" not in result.stderr


def test_memory_of_the_machine(monkeypatch, tmp_path: Path) -> None:
    files = {"memory.max": "5000000\n", "memory.stat": "anon 2000000\nfile 9\n"}
    meminfo = "MemTotal: 9000 kB\nMemAvailable: 6000 kB\nSwapFree: 100 kB\n"
    monkeypatch.setitem(sys.modules, "psutil", None)

    def read_text(path: Path) -> str:
        if path == Path("/proc/meminfo"):
            return meminfo
        if path.name in files:
            return files[path.name]
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert footprint.available() == (3000000, 0)  # a container's limit
    files["memory.max"] = "max\n"
    assert footprint.available() == (6000 << 10, 100 << 10)
    files.clear()
    assert footprint.available() == (6000 << 10, 100 << 10)
    meminfo = "MemTotal: 9000 kB\n"
    assert footprint.available() is None


def test_the_bar_draws_on_a_terminal_only(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with bar("sr.npy") as progress:
        assert progress is None
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with bar("[b]sr.npy") as progress:
        assert progress is not None
        progress(0.5, "block 2 of 4")
    drawn = terminal.getvalue()
    assert "[b]sr.npy: block 2 of 4" in drawn
    assert "50%" in drawn
