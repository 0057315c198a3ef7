"""The automatic choice between cuda and triton follows committed measurements, and only these."""

import json

import pytest
import torch

from bench.gpu import cascade
from lkops import _measured, backends

OPERATOR = "large_kernel_channel_attention"


class Image:
    """What the rule looks at, of a tensor on a GPU that is not here."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        self.shape, self.dtype, self.device = shape, dtype, torch.device("cuda")

    def numel(self) -> int:
        return torch.Size(self.shape).numel()

    def dim(self) -> int:
        return len(self.shape)


def entry(shape: tuple[int, ...], ratio: float, **more: str) -> dict:
    return {"operator": OPERATOR, "dtype": "float32", "device": "A GPU", "shape": list(shape), "ratio": ratio} | more


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Sets what is committed."""

    def commit(*entries: dict) -> None:
        (tmp_path / "measured.json").write_text(json.dumps(entries))
        forget()

    def forget() -> None:
        _measured.entries.cache_clear()
        _measured._wins.cache_clear()

    monkeypatch.setattr(_measured, "TABLE", tmp_path / "measured.json")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    forget()
    yield commit
    forget()


def test_nothing_measured_means_triton(table) -> None:
    assert not _measured.wins(OPERATOR, Image(32, 128, 16, 16))
    assert _measured.why(OPERATOR) == "cuda is not automatic: no committed result of a GPU shows that it beats triton"


def test_wins_count_near_their_shape_on_their_device(table) -> None:
    table(entry((32, 128, 16, 16), 1.4), entry((1, 128, 64, 64), 0.9), entry((1, 128, 16, 16), 1.2, device="Another"))
    assert _measured.wins(OPERATOR, Image(32, 128, 16, 16))
    assert _measured.wins(OPERATOR, Image(16, 192, 20, 12))  # less than twice as many planes or pixels, or as few
    assert not _measured.wins(OPERATOR, Image(32, 128, 32, 32))  # four times the pixels
    assert not _measured.wins(OPERATOR, Image(2, 128, 16, 16))
    assert not _measured.wins(OPERATOR, Image(1, 128, 64, 64))  # it lost
    assert not _measured.wins(OPERATOR, Image(1, 128, 16, 16))  # on another device
    assert not _measured.wins(OPERATOR, Image(32, 128, 16, 16, dtype=torch.bfloat16))
    assert not _measured.wins("depthwise_conv2d", Image(32, 128, 16, 16))
    assert not _measured.wins(OPERATOR, Image(0, 128, 16, 16))
    assert "2 of 3 measured ones where it beat triton" in _measured.why(OPERATOR)


def test_choose_follows(table, monkeypatch) -> None:
    monkeypatch.setattr(backends, "why_not", lambda operator, name, device, dtypes: "")
    image = Image(32, 128, 16, 16)
    assert backends.choose(OPERATOR, None, [image]) == "triton"
    table(entry((32, 128, 16, 16), 1.4))
    assert backends.choose(OPERATOR, None, [image]) == "cuda"
    assert backends.choose(OPERATOR, "triton", [image]) == "triton"
    table(entry((32, 128, 16, 16), 0.99))
    assert backends.choose(OPERATOR, None, [image]) == "triton"


def test_what_is_committed_comes_from_results_of_the_gate(table, tmp_path) -> None:
    rows = [
        {"what": f"{OPERATOR} forward", "dtype": "float32", "shape": [32, 128, 16, 16], "ratio": 1.4},
        {"what": f"{OPERATOR} forward and backward", "dtype": "float32", "shape": [32, 128, 16, 16], "ratio": 1.2},
        {"what": "cascade forward", "dtype": "float32", "shape": [32, 128, 16, 16], "ratio": 9},
        {"what": f"{OPERATOR} forward", "dtype": "float16", "shape": [32, 128, 16, 16], "cuda_wrong": "by far"},
    ]
    result = {"device": "A GPU", "environment": {"commit": "abc"}, "cascade": {"rows": rows}}
    (tmp_path / "gpu-a.json").write_text(json.dumps(result))
    assert cascade.main([str(tmp_path / "gpu-a.json"), "--choose"]) == 0
    _measured.entries.cache_clear()
    assert _measured.entries() == (entry((32, 128, 16, 16), 1.2, commit="abc"),)
    assert "by far" in cascade.table(result["cascade"])
    assert cascade.off([torch.zeros(3)], [torch.ones(3).double()]) != ""
    assert cascade.off([torch.ones(3)], [torch.ones(3).double()]) == ""


def test_without_a_gpu_the_measurement_says_why(tmp_path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert cascade.main([str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["reason"]
