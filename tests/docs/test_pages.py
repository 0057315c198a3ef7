"""The pages are true: their code runs, their command lines parse, their links lead somewhere, and the site builds."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.run
from torch import nn

from .pages import PAGES, ROOT, blocks, command_lines

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the code of the pages reads: a low-resolution image, a scene, a checkpoint, weights of a model."""
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("scipy", reason="scipy is not installed: it makes the scenes")
    pytest.importorskip("lightning", reason="lightning is not installed")
    from lkcanet.data import demo_scene
    from lkcanet.models import lkca_lr, save_model

    folder = tmp_path_factory.mktemp("pages")
    numpy.save(folder / "scene.npy", demo_scene((96, 96), 8, seed=1).pixels)
    lowres = (65535 * demo_scene((16, 16), 31, seed=2).pixels).astype("uint16")
    numpy.save(folder / "lr.npy", lowres)
    if importlib.util.find_spec("rasterio") is not None:
        import rasterio

        shape = {"count": 31, "height": 16, "width": 16, "dtype": "uint16"}
        place = {"crs": "EPSG:32632", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)}
        with rasterio.open(folder / "lr.tif", "w", driver="GTiff", **shape, **place) as file:
            file.write(lowres)
    (folder / "run").mkdir()
    save_model(lkca_lr(31, 4, channels=16, blocks=1), folder / "run" / "best.safetensors", extra={"peak": 65535.0})
    torch.save(model().state_dict(), folder / "weights.pt")
    return folder


def model() -> nn.Module:
    torch.manual_seed(0)
    tail = nn.Conv2d(16, 3 * 16, 3, padding=1), nn.PixelShuffle(4)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), *tail)


def known(page: Path) -> dict[str, Any]:
    """Names that a reader has of his own: his model and his images."""
    images = torch.rand(2, 1, 3, 16, 16)
    mine = {"MyNetwork": model, "images": list(images), "example": images[0], "image": images[0]}
    return {"__name__": page.stem, "torch": torch, "lkops": importlib.import_module("lkops"), "model": model(), **mine}


@every_page
def test_its_code_runs(page: Path, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(files)
    names = known(page)
    found = blocks(page, "python")
    if not found:
        pytest.skip("no code on this page")
    for block in found:
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        if ".cuda()" in block.text and not torch.cuda.is_available():
            continue  # compiled is all that can be asked for
        if "import lkedge" in block.text:
            continue  # a package of its own: tests/edge builds it, and runs this
        if "record() as calls" in block.text:
            names["model"], names["image"] = lkca(), torch.rand(1, 8, 16, 16)
        exec(code, names)


def lkca() -> nn.Module:
    from lkcanet.models import lkca_lr

    return lkca_lr(8, 4, channels=16, blocks=1)


@every_page
def test_its_commands_are_taken(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("scene: [paintings]\nsteps: 3\n")  # it is read when the line is
    monkeypatch.chdir(tmp_path)
    typer = pytest.importorskip("typer", reason="typer is not installed")
    from lkcanet.commands.app import build

    group: Any = typer.main.get_command(build())
    rules = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for program, *words in command_lines(page):
        if program == "lkca":
            assert words[0] in group.commands, words
            group.commands[words[0]].make_context(words[0], words[1:])
        elif program == "torchrun":
            given = torch.distributed.run.parse_args(words)
            assert (given.module, given.training_script) == (True, "lkcanet.cli"), words
            name, *rest = given.training_script_args
            group.commands[name].make_context(name, rest)
        elif program == "dask":
            pytest.importorskip("distributed", reason="distributed is not installed")
            (entry,) = importlib.metadata.entry_points(group="dask_cli", name=words[0])
            entry.load().make_context(words[0], words[1:])
        elif program == "make":
            targets = [word for word in words if "=" not in word]
            assert set(targets) <= rules, words
        elif program.startswith("python") and words[0] == "-m":
            assert importlib.util.find_spec(words[1]) is not None, words
        elif program == "lkedge":
            continue  # tests/edge has its parser
        else:
            assert program in {"pip", "python", "CXX=aarch64-linux-gnu-g++", "git", "LKOPS_BUILD=0"}, [program, *words]


@every_page
def test_its_links_lead_to_files(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("package", ["lkops", "lkops.nn", "lkops.lowrank", "lkops.testing", "lkcanet.data"])
def test_the_reference_has_every_public_name(package: str) -> None:
    pytest.importorskip("numpy")
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    entries = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    module = importlib.import_module(package)
    names = [name for name in module.__all__ if callable(getattr(module, name))]
    assert names
    if package == "lkops":  # its modules have their entries as lkops.nn's
        entries |= {f"lkops.{entry.rpartition('.')[2]}" for entry in entries}
    assert not [name for name in names if f"{package}.{name}" not in entries]


def test_the_entries_of_the_reference_are_there() -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for entry in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            module, _, name = entry.rpartition(".")
            assert getattr(importlib.import_module(module), name).__doc__, entry


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    assert "From a scene to a picture" in home
    for page in (tmp_path / "site").rglob("*.html"):  # they open from disk, without a network
        fetched = re.findall(
            r"""<(?:script|link|img|iframe)\b[^>]*(?:src|href)=["']?(?:https?:)?//[^>]*>""", page.read_text()
        )
        assert not fetched, page
    assert "assets/iframe-worker.js" in home  # the search, which asks for a worker
    assert (tmp_path / "site" / "results" / "cave_x4.html").exists()
    for package, name in (("lkops", "upsample_add"), ("lkcanet", "super_resolve")):
        assert name in (tmp_path / "site" / "api" / f"{package}.html").read_text()
