"""`lkedge run`, `info` and `bench`: scenes in, scenes out, what is said and refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.docs.pages import blocks, command_lines
from tests.packages import project

from .conftest import ROOT
from .test_build import python

SHAPE = (6, 21, 17)


@pytest.fixture
def command(lkedge: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """command(words) -> exit code, stdout, stderr of `lkedge words`."""
    from lkedge.cli import main

    def call(*words: Any) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def scene(dtype: str = "float32") -> np.ndarray:
    pixels = np.random.default_rng(5).random(SHAPE, np.float32)
    return pixels if dtype == "float32" else (1000 * pixels).astype(dtype)


def test_npy(command: Any, net: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "lr.npy", scene())
    code, out, err = command("run", net.path, tmp_path / "lr.npy", tmp_path / "sr.npy", "--strip-rows", 4)
    assert code == 0, err
    assert "6 bands, 42 x 34 pixels" in out
    assert "sr.npy takes" in err
    assert np.array_equal(np.load(tmp_path / "sr.npy"), net(scene()))
    before = (tmp_path / "sr.npy").read_bytes()
    code, _, err = command("run", net.path, tmp_path / "lr.npy", tmp_path / "sr.npy")
    assert code == 1
    assert "exists: choose another name or --overwrite" in err
    assert (tmp_path / "sr.npy").read_bytes() == before
    assert command("run", net.path, tmp_path / "lr.npy", tmp_path / "sr.npy", "--overwrite")[0] == 0


def test_whole_numbers_are_divided_by_the_peak_of_the_network(command: Any, net: Any, tmp_path: Path) -> None:
    counts = scene("uint16")
    np.save(tmp_path / "lr.npy", counts)
    assert command("run", net.path, tmp_path / "lr.npy", tmp_path / "sr.npy")[0] == 0
    assert np.array_equal(np.load(tmp_path / "sr.npy"), net(counts / np.float32(1000)))
    assert command("run", net.path, tmp_path / "lr.npy", tmp_path / "own.npy", "--peak", 2000)[0] == 0
    assert np.array_equal(np.load(tmp_path / "own.npy"), net(counts / np.float32(2000)))


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_of_another_library(interleave: str, command: Any, net: Any, tmp_path: Path) -> None:
    spectral = pytest.importorskip("spectral", reason="spectral is not installed")
    counts = scene("int16")
    facts = {
        "wavelength": [400 + 10.5 * i for i in range(6)],
        "wavelength units": "Nanometers",
        "map info": ["UTM", "3", "2", "500000", "4000000", "30", "30", "33", "North", "WGS-84", "units=Meters"],
    }
    spectral.envi.save_image(
        str(tmp_path / "lr.hdr"), counts.transpose(1, 2, 0), interleave=interleave, metadata=facts, byteorder=1
    )
    code, _, err = command("run", net.path, tmp_path / "lr.hdr", tmp_path / "sr.hdr", "--strip-rows", 5)
    assert code == 0, err
    read = spectral.open_image(str(tmp_path / "sr.hdr"))
    made = np.asarray(read.load()).transpose(2, 0, 1)
    assert np.array_equal(made, net(counts / np.float32(1000)))
    assert read.bands.centers == facts["wavelength"]
    assert [float(entry) for entry in read.metadata["map info"][1:7]] == [5, 3, 500000, 4000000, 15, 15]
    assert read.metadata["map info"][7:] == ["33", "North", "WGS-84", "units=Meters"]
    assert set(read.metadata["data gain values"]) == {"1000.0"}
    assert {path.name for path in tmp_path.iterdir()} == {"lr.hdr", "lr.img", "sr.hdr", "sr.img"}


def test_envi_that_lkcanet_reads_and_writes(command: Any, net: Any, tmp_path: Path) -> None:
    pytest.importorskip("spectral", reason="spectral is not installed")
    from lkcanet.data import demo_scene, read_scene, write_scene

    lowres = demo_scene((16, 18), 6)
    write_scene(tmp_path / "lr.hdr", lowres)
    assert command("run", net.path, tmp_path / "lr.hdr", tmp_path / "sr.hdr")[0] == 0
    read = read_scene(tmp_path / "sr.hdr", peak=1.0)
    assert np.array_equal(read.pixels, net(lowres.pixels))
    assert np.allclose(read.wavelengths, lowres.wavelengths)


@pytest.mark.parametrize(
    "lines",
    [
        "reflectance scale factor = 0.01\n",
        "data gain values = {4, 4, 4, 4, 4, 4}\nreflectance scale factor = 3\n",  # which then is not applied
        "data gain values = {2.5,\n 2.5, 2.5, 2.5, 2.5, 2.5}\ndata offset values = {0, 0, 0, 0, 0, 0}\n",
    ],
)
@pytest.mark.filterwarnings("ignore:.*reflectance scale factor.*the latter is not:UserWarning")
def test_declared_units_are_those_of_lkcanet(lines: str, command: Any, net: Any, tmp_path: Path) -> None:
    pytest.importorskip("spectral", reason="spectral is not installed")
    from lkcanet.data import read_scene

    scene("int16").tofile(tmp_path / "lr.img")
    facts = "ENVI\nsamples = 17\nlines = 21\nbands = 6\ndata type = 2\ninterleave = bsq\nbyte order = 0\n"
    (tmp_path / "lr.hdr").write_text(facts + lines)
    code, _, err = command("run", net.path, tmp_path / "lr.hdr", tmp_path / "sr.hdr")
    assert code == 0, err
    lowres, made = read_scene(tmp_path / "lr.hdr", peak=1000.0), read_scene(tmp_path / "sr.hdr", peak=1000.0)
    expected = net(lowres.pixels)
    assert np.abs(made.pixels - expected).max() < 1e-5 * np.abs(expected).max()


def test_units_of_each_band(command: Any, net: Any, tmp_path: Path) -> None:
    """Whole numbers are divided by a peak that is given; the result says what it has become of the units."""
    scene("int16").tofile(tmp_path / "lr.img")
    facts = "ENVI\nsamples = 17\nlines = 21\nbands = 6\ndata type = 2\ninterleave = bsq\n"
    units = "data gain values = {1, 2, 3, 4, 5, 6}\ndata offset values = {0, 0, 0, 0, 0, -7}\n"
    (tmp_path / "lr.hdr").write_text(facts + units)
    words = ("run", net.path, tmp_path / "lr.hdr", tmp_path / "sr.hdr")
    code, _, err = command(*words)
    assert code == 1
    assert "has a gain for each band, or offsets: give a peak of its numbers" in err
    assert command(*words, "--peak", 500)[0] == 0
    assert np.array_equal(np.fromfile(tmp_path / "sr.img", "<f4"), net(scene("int16") / np.float32(500)).ravel())
    header = (tmp_path / "sr.hdr").read_text()
    assert "data gain values = {500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0}\n" in header
    assert "data offset values = {0.0, 0.0, 0.0, 0.0, 0.0, -7.0}\n" in header
    for wrong in ("data gain values = {1, 2}", "data gain values = {1, 2, 3, 4, 5, 0}", "reflectance scale factor = x"):
        (tmp_path / "lr.hdr").write_text(f"{facts}{wrong}\n")
        code, _, err = command(*words, "--overwrite")
        assert code == 1
        assert f"{wrong.partition(' =')[0]} must be " in err


def test_refusals_leave_nothing(command: Any, net: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "lr.npy", scene())
    np.save(tmp_path / "bands.npy", scene()[:5])
    nan = scene()
    nan[2, 20, 16] = np.nan
    np.save(tmp_path / "nan.npy", nan)
    (tmp_path / "lr.hdr").write_text("ENVI\nsamples = 17\nlines = 21\nbands = 6\ndata type = 4\ninterleave = bsq\n")
    (tmp_path / "lr.img").write_bytes(b"\0" * 100)
    (tmp_path / "no.hdr").write_text("samples = 17\n")
    (tmp_path / "six.hdr").write_text("ENVI\nsamples = 17\nlines = 21\nbands = 6\ndata type = 6\ninterleave = bsq\n")
    there = sorted(tmp_path.iterdir())
    cases: list[tuple[str, str, tuple[str, ...], str]] = [
        ("bands.npy", "sr.npy", (), r"must be (6, rows, columns) for this network, got (5, 21, 17)"),
        ("nan.npy", "sr.npy", (), "in band 2, row 20, column 16"),
        ("nan.npy", "sr.hdr", (), "in band 2, row 20, column 16"),
        ("lr.npy", "sr.tif", (), "must end in .npy or .hdr"),
        ("lr.npy", "none/sr.npy", (), "does not exist"),
        ("lr.npy", "sr.npy", ("--memory", "0.01"), "are more than 0.0 MB: a smaller scene, or a larger --memory"),
        ("lr.npy", "sr.npy", ("--peak", "0"), "give one above 0"),
        ("lr.hdr", "sr.npy", (), "has 100 bytes, but its header lr.hdr describes 8568"),
        ("no.hdr", "sr.npy", (), "no ENVI header"),
        ("six.hdr", "sr.npy", (), "data type must be one of"),
        ("none.npy", "sr.npy", (), "No such file"),
        ("lr.npy", "lr.npy", ("--overwrite",), "is the scene itself"),
    ]
    for source, out, more, words in cases:
        code, _, err = command("run", net.path, tmp_path / source, tmp_path / out, *more)
        assert code == 1
        assert words in err
        assert sorted(tmp_path.iterdir()) == there
    code, _, err = command("run", tmp_path / "lr.npy", tmp_path / "lr.npy", tmp_path / "sr.npy")
    assert code == 1
    assert "no network of `lkca export`" in err


@pytest.mark.parametrize("header", ["lr.hdr", "lr.img.hdr"])
def test_no_file_of_the_scene_is_overwritten(header: str, command: Any, net: Any, tmp_path: Path) -> None:
    data = tmp_path / ("lr.bsq" if header == "lr.hdr" else "lr.img")
    scene("int16").tofile(data)
    facts = "ENVI\nsamples = 17\nlines = 21\nbands = 6\ndata type = 2\ninterleave = bsq\n"
    (tmp_path / header).write_text(facts)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for read in before:
        code, _, err = command("run", net.path, read, tmp_path / "lr.hdr", "--overwrite")
        assert code == 1
        assert "is the scene itself" in err
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert command("run", net.path, data, tmp_path / "lr.npy")[0] == 0  # another file, whatever its name


def test_full_disk(built: Path, net: Any, tmp_path: Path) -> None:
    """Files may not grow beyond what the result takes: as on a full disk, writing fails, and nothing is left."""
    pytest.importorskip("resource", reason="no limits here")
    np.save(tmp_path / "lr.npy", scene())
    code = """
import resource, signal
from lkedge.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
sys.exit(main(sys.argv[1:]))
"""
    for name in ("sr.npy", "sr.hdr"):
        done = python(code, built, "run", net.path, str(tmp_path / "lr.npy"), str(tmp_path / name))
        assert done.returncode == 1
        assert "File too large" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["lr.npy"]


def test_memory_is_as_stated(built: Path, net: Any, tmp_path: Path) -> None:
    """The process grows by what was said before, the mapped files' pages at hand and little else."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no such figures here")
    np.save(tmp_path / "lr.npy", np.random.default_rng(0).random((6, 400, 200), np.float32))
    code = """
from pathlib import Path
import numpy as np
import lkedge
from lkedge import scenes
def peak():  # that of getrusage is the parent's, where that was larger
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
net = lkedge.load(sys.argv[1], threads=2)
net(np.zeros((6, 8, 8), np.float32))
net.release()
job = scenes.prepare(net, Path(sys.argv[2]), strip_rows=16)
before = peak()
scenes.run(net, job, Path(sys.argv[3]))
print(job.memory, peak() - before)
"""
    done = python(code, built, net.path, str(tmp_path / "lr.npy"), str(tmp_path / "sr.npy"))
    assert done.returncode == 0, done.stderr
    stated, grown = map(int, done.stdout.split())
    mapped = 4 * 6 * 400 * 200  # the low-resolution image, read where it lies
    assert stated > 16 * 400 * 200 * 4 * 4  # a block's maps
    assert 0.5 * stated < grown < 1.05 * stated + mapped + 6e6


def test_info_and_bench(command: Any, net: Any) -> None:
    code, out, _ = command("info", net.path, "--size", "32x16", "--json", "--threads", 2)
    assert code == 0
    facts = json.loads(out)
    assert facts["workspace_bytes"] == net.memory(32, 16).workspace
    assert (facts["bands"], facts["scale"], facts["parameters"]) == (6, 2, net.parameters)
    code, out, _ = command("info", net.path)
    assert code == 0
    assert "lkcanet, 6 bands, x2" in out
    assert '"upsample_groups": 8' in out
    code, out, _ = command("bench", net.path, "--size", "4,4", "--repeat", "2", "--threads", "1")
    assert code == 0
    assert "ms of 2" in out


@pytest.mark.parametrize("words", [("--size", "4"), ("--size", "0,3"), ("--threads", "0"), ("--threads", "x")])
def test_usage(words: tuple[str, ...], command: Any, net: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        command("info", net.path, *words)
    assert ended.value.code == 2


def test_the_page_is_true(lkedge: Any, net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code runs, its command lines parse."""
    from lkedge.cli import _parser

    page = ROOT / "docs" / "edge.md"
    lines = [words for program, *words in command_lines(page) if program == "lkedge"]
    assert {words[0] for words in lines} == {"run", "info", "bench"}
    for words in lines:
        _parser().parse_args(words)
    (block,) = blocks(page, "python")
    shutil.copy(net.path, tmp_path / "net.lkops")
    monkeypatch.chdir(tmp_path)
    seen: list[int] = []
    names = {"lr": scene(), "put": lambda first, strip: seen.append(first + strip.shape[1])}
    exec(compile(block.text, str(page), "exec"), names)
    assert np.array_equal(names["sr"], net(scene()))
    assert seen == [32, 42]


def test_as_a_module(built: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "lkedge.cli", "--version"], cwd=built, capture_output=True, text=True)
    assert done.stdout.strip() == f"lkedge {project('edge')['project']['version']}"
