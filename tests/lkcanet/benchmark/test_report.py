"""A report of several modes: each is measured with its own shape and providers."""

import json
from typing import Any

import pytest

from lkcanet.benchmark import Measured, Result, report


def test_modes_are_measured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    lines: list[str] = []

    def measured(bands: int, size: tuple[int, int], scale: int, **options: Any) -> Result:
        calls.append((bands, size, scale, options))
        return Result(options["mode"], {"lkops": Measured(2.0, 1.0, 0.1, 5, 0.5), "eager": Measured(6.0, 5.0, 0.1, 5)})

    monkeypatch.setattr(report, "network_benchmark", measured)
    found = report.network_report(
        8,
        {"forward": (1, 6, 5), "training": (2, 4, 4)},
        2,
        providers=["eager", "lkops", "openvino"],
        seconds=3,
        progress=lines.append,
        channels=16,
    )
    common = {"network": "lkca_lr", "backend": None, "seconds": 3, "channels": 16}
    assert calls == [
        (8, (6, 5), 2, {**common, "mode": "forward", "batch": 1, "providers": ["eager", "lkops", "openvino"]}),
        (8, (4, 4), 2, {**common, "mode": "training", "batch": 2, "providers": ["eager", "lkops"]}),
    ]
    assert lines == [
        "forward: checking eager, lkops, openvino, then timing for 3 s",
        "training: checking eager, lkops, then timing for 3 s",
    ]
    assert found["modes"]["training"]["shape"] == [2, 8, 4, 4]
    assert found["modes"]["forward"]["faster_than"] == {"eager": 3.0}
    assert (found["network"], found["scale"], found["options"]) == ("lkca_lr", 2, {"channels": 16})
    assert {"cpu", "threads", "torch", "allocator"} <= found.keys()
    json.dumps(found)
