"""The rows of the CPU benchmarks under pytest-benchmark, a provider at a time: for work on one kernel, with
`pytest bench/cpu/test_cpu.py -k "attention_64 and forward"`, `--benchmark-autosave` and `--benchmark-compare`.

`python -m bench.cpu.run` measures what is committed: it calls the providers of a row in turn, so that other load meets
all alike, where pytest-benchmark is done with one before it begins with the next. Rows, checks and providers are the
same.
"""

import os
from functools import lru_cache
from typing import Any

import pytest
import torch

from bench.cpu.rows import Row, rows
from lkcanet.benchmark import ready

ROWS = {row.name: row for row in rows(tiny=os.environ.get("BENCH_TINY") == "1")}
CASES = [(name, provider) for name, row in ROWS.items() for provider in row.providers]


@lru_cache(maxsize=1)  # tests of one row follow each other
def _ready(name: str) -> Any:
    row: Row = ROWS[name]
    torch.manual_seed(0)
    return ready(row.make(), row.mode, row.providers)


@pytest.mark.parametrize(("name", "provider"), CASES, ids=lambda value: value.replace(" ", "-"))
def test_cpu(benchmark: Any, name: str, provider: str) -> None:
    runners, found, backends = _ready(name)
    if provider not in runners:
        (pytest.skip if "not installed" in found[provider].reason else pytest.fail)(found[provider].reason)
    own = runners[provider]
    benchmark.group = ROWS[name].title
    benchmark.extra_info.update(backends=backends, error_of_allowed=found[provider].error)
    benchmark.pedantic(own.run, setup=lambda: ((own.untimed(),), {}), rounds=15, warmup_rounds=3)
