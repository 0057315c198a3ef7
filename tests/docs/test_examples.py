"""The examples run, and what they print is true of what they made."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .pages import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy", reason="scipy is not installed: it makes the scenes")
    pytest.importorskip("lightning", reason="lightning is not installed")
    monkeypatch.chdir(tmp_path)


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name))


def test_train_in_python(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    scores = example("train_in_python.py")["main"](folder="run", steps=8)
    assert list(scores) == ["bicubic", "LKCA-LR"]
    assert scores["LKCA-LR"] != scores["bicubic"]
    assert (tmp_path / "run" / "example.png").stat().st_size > 10_000


def test_fuse_your_model() -> None:
    import lkops

    fused = example("fuse_your_model.py")["main"]()
    x = torch.rand(1, 31, 16, 16)
    model = example("fuse_your_model.py")["SuperResolver"]()
    model.load_state_dict(fused.state_dict())
    torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-4)
    with lkops.backends.record() as calls:
        fused(x)
    assert any(call.operator == "depthwise_conv2d" for call in calls)


def test_custom_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    file = example("custom_network.py")["main"]("mine", 4)
    assert (tmp_path / file).stat().st_size > 1000


def test_add_an_operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from lkops import testing

    folder = EXAMPLES / "add_an_operator"
    monkeypatch.syspath_prepend(str(folder))
    try:
        runpy.run_path(str(folder / "check.py"))["main"]()
        package = sys.modules["scale_channels"]
        x, weight = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 1, 1)
        torch.testing.assert_close(package.scale_channels(x, weight, times=3), 3 * x * weight)
    finally:
        testing.OPERATORS.pop("scale_channels", None)
        for name in [name for name in sys.modules if name.startswith("scale_channels")]:
            del sys.modules[name]
    assert capsys.readouterr().out.splitlines()[-1] == "compiled, differentiated"


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without what it printed"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert "upsample_add" in printed
