"""The runtime's images are those of lkops, bit for bit, on the same instruction set and any number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lkops
from lkcanet.deploy.edge import export_edge
from lkcanet.models import Network
from lkops._core import extension
from tests.lkops import isas

from .conftest import ROOT, networks

SHAPES = ((1, 1, 1), (2, 9, 13), (1, 20, 33))
NAMES = ("lkca_net", "lkca_lr", "winograd", "rank", "lkca_res")
EXHAUSTIVE = pytest.mark.exhaustive  # each of them imports torch once more
pytestmark = pytest.mark.skipif(extension.build_facts().get("built") is not True, reason="lkops has no kernels here")


class _ByLkops(nn.Module):
    """A plain conv of a network, which PyTorch computes in the network, by lkops."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.kernel_size = conv.weight, conv.bias, conv.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        return lkops.conv2d(x, self.weight, self.bias, padding="same", backend="cpu")


def by_lkops(model: Network, image: Tensor, dtype: str) -> np.ndarray:
    """The network's image with every operator on lkops' backend cpu."""
    folded: Any = model.fold()
    folded.head = _ByLkops(folded.head)
    if folded.upsample.first is not None:
        folded.upsample.first = _ByLkops(folded.upsample.first)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
    with torch.no_grad(), lkops.backend("cpu"), autocast:
        return folded(image).numpy()


def image(model: Network, shape: tuple[int, int, int]) -> Tensor:
    return torch.rand(shape[0], model.bands, *shape[1:], generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_as_lkops(name: str, dtype: str, lkedge: Any, files: dict[tuple[str, str], Path]) -> None:
    model = networks()[name]
    for shape in SHAPES:
        lowres = image(model, shape)
        expected = by_lkops(model, lowres, dtype)
        assert np.abs(expected).max() > 0.1
        for threads in range(1, 5):
            found = lkedge.load(files[name, dtype], threads=threads)(lowres.numpy())
            assert found.dtype == np.float32
            assert np.array_equal(found, expected), f"{shape} on {threads} threads"


@pytest.mark.parametrize("name", NAMES)
def test_strips_are_the_whole(name: str, lkedge: Any, files: dict[tuple[str, str], Path]) -> None:
    net = lkedge.load(files[name, "float32"], threads=2)
    lowres = image(networks()[name], (1, 23, 19)).numpy()[0]
    whole = net(lowres)
    for rows in (1, 2, 6, 22, 40):
        made = np.full_like(whole, np.nan)

        def put(first: int, strip: np.ndarray, made: np.ndarray = made) -> None:
            made[:, first : first + strip.shape[1]] = strip

        net.strips(lowres, put, rows=rows)
        assert np.array_equal(made, whole), f"strips of {rows} rows"


SCRIPT = """
import json, sys
import numpy as np, torch
import lkops, lkedge
from tests.edge.conftest import networks
from tests.edge.test_same_bits import by_lkops, image
same = {}
for name in ("lkca_lr", "winograd"):
    model = networks()[name]
    lowres = image(model, (1, 9, 21))
    for dtype in ("float32", "bfloat16"):
        net = lkedge.load(f"{sys.argv[1]}/{name}-{dtype}.lkops", threads=2)
        same[f"{name} {dtype}"] = bool(np.array_equal(net(lowres.numpy()), by_lkops(model, lowres, dtype)))
print(json.dumps([lkedge.instruction_set(), same]))
"""


@pytest.mark.parametrize("isa", ["portable", *(pytest.param(isa, marks=EXHAUSTIVE) for isa in ("avx2", "avx512"))])
def test_other_instruction_sets(isa: str, built: Path, files: dict[tuple[str, str], Path]) -> None:
    """lkops and lkedge take the same variable."""
    if reason := isas.why_not(isa):
        pytest.skip(reason)
    env = {**os.environ, "LKOPS_CPU_ISA": isa, "PYTHONPATH": os.pathsep.join((str(built), str(ROOT)))}
    folder = str(files["lkca_lr", "float32"].parent)
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used, same = json.loads(done.stdout)
    assert used == isa
    assert all(same.values()), same


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_export_compares_the_file(dtype: str, lkedge: Any, tmp_path: Path) -> None:
    report = export_edge(networks()["lkca_res"], tmp_path / "net.lkops", dtype=dtype)
    assert report.checked == ((1, 4, 1, 1), (2, 4, 3, 5), (1, 4, 21, 17))
    assert 0 < report.error <= report.allowed < 0.5
