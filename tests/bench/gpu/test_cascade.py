"""cuda against triton: what is wrong gets no time, and without a GPU it says why."""

import json

import pytest
import torch

from bench.gpu import cascade


def test_what_is_wrong_is_named() -> None:
    assert cascade.off([torch.zeros(3)], [torch.ones(3).double()]) != ""
    assert cascade.off([torch.ones(3)], [torch.ones(3).double()]) == ""


def test_the_table_names_what_got_no_time() -> None:
    rows = [
        {"what": "cascade forward", "dtype": "float32", "shape": [32, 128, 16, 16], "cuda_ms": 1.0, "ratio": 1.4},
        {"what": "lk_block forward", "dtype": "float16", "shape": [32, 128, 16, 16], "cuda_wrong": "by far"},
    ]
    text = cascade.table({"rows": rows})
    assert "by far" in text
    assert "1.40x" in text


def test_without_a_gpu_the_measurement_says_why(tmp_path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert cascade.main([str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["reason"]
