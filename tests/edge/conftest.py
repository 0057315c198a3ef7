"""The package lkedge and the C library, built once into build/edge; the networks that they are tried on."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lkcanet.deploy.edge import export_edge
from lkcanet.models import LKCANet, Network
from lkcanet.models.lkca_res import LKCARes
from lkops._core.extension import build_facts

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "edge" / "python"


def setup_py(*arguments: str, isas: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python edge/setup.py ...`, by one process at a time; for lkops' own instruction sets, or these."""
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if name not in ("LKOPS_CPU_ISA", "PYTHONPATH")}
    env["LKOPS_ISAS"] = isas or ",".join(build_facts().get("isas", ["native"]))  # lkops' objects are there already
    with (BUILT.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        elsewhere = ["egg_info", "--egg-base", str(BUILT.parent)]  # not into the sources
        command = [sys.executable, str(ROOT / "edge" / "setup.py"), "-q", *elsewhere, *arguments]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="session")
def can_build() -> None:
    if not (ROOT / "csrc" / "runtime").is_dir() or not (ROOT / "edge").is_dir():
        pytest.skip("no csrc and edge beside these tests")
    pytest.importorskip("pybind11", reason="pybind11 is not installed")
    if shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        pytest.skip("no C++ compiler on the path or in CXX")


@pytest.fixture(scope="session")
def built(can_build: None) -> Path:
    """The folder that holds the package."""
    temporary = BUILT.with_name("temporary")
    done = setup_py("build", "--build-lib", str(BUILT), "--build-temp", str(temporary))
    assert done.returncode == 0, done.stderr
    return BUILT


@pytest.fixture(scope="session")
def lkedge(built: Path) -> Iterator[Any]:
    """The package, imported beside torch."""
    sys.path.insert(0, str(built))
    import lkedge

    yield lkedge
    sys.path.remove(str(built))


def trained(model: Network) -> Network:
    """All of whose parameters are random, so that every part takes part."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def networks() -> dict[str, Network]:
    """By name: kinds of networks and of upsamplers, and options that are not the defaults."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"channels": 16, "blocks": 2, "reduction": 8}
    return {
        "lkca_net": trained(LKCANet(5, 3, **small)),
        "lkca_lr": trained(LKCANet(6, 2, upsample_groups=8, interleave=True, kernel_sizes=(3, 5), **small)),
        "winograd": trained(LKCANet(4, 2, **{**small, "channels": 64}, border="replicate", cubic_a=-0.75)),
        "rank": trained(LKCANet(4, 2, upsample_rank=5, dilations=(2, 3), **small)),
        "lkca_res": trained(LKCARes(4, 2, 16, 2, reduction=8)),
    }


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Their files, by name and dtype."""
    folder = tmp_path_factory.mktemp("networks")
    paths = {}
    for name, model in networks().items():
        for dtype in ("float32", "bfloat16"):
            paths[name, dtype] = folder / f"{name}-{dtype}.lkops"
            export_edge(model, paths[name, dtype], dtype=dtype, metadata={"peak": 1000.0}, check=False)
    return paths


@pytest.fixture
def net(lkedge: Any, files: dict[tuple[str, str], Path]) -> Any:
    return lkedge.load(files["lkca_lr", "float32"], threads=2)
