"""Settings of all tests. Where an optional package is missing, the tests that need it are skipped by its name."""

import importlib.util
import os
from collections.abc import Generator
from typing import Any

import pytest
import torch

from tests.interpreter import quicken
from tests.packages import imported_as, optional

# Without a GPU, Triton's kernels are tested in its interpreter, on CPU tensors; lkops reads this when it is imported.
# Compiling kernels ahead of time can't share the process: test_triton_ahead_of_time.py starts one of its own.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Kernels are held to eager PyTorch's own error in float32: on a GPU, torch's convs would take tf32 (1e-3) by default.
# One test turns it on for itself: test_contract.py's of tf32.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False

# what the extras of pyproject.toml bring
MISSING = {name for name in map(imported_as, optional()) if importlib.util.find_spec(name) is None}

if "hypothesis" not in MISSING:
    from hypothesis import settings

    settings.register_profile("ci", derandomize=True, deadline=None)  # a red CI can be repeated
    settings.register_profile("here", deadline=None)
    settings.load_profile("ci" if os.environ.get("CI") else "here")

if os.environ.get("TRITON_INTERPRET") == "1" and "triton" not in MISSING:
    quicken()


@pytest.fixture
def two_threads() -> Generator[None, None, None]:
    """Two threads for the kernels, also where OMP_NUM_THREADS is 1, as in the processes of `make test`."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def why_skip(error: BaseException | None) -> str:
    """The optional package whose absence this error tells of, in words; empty for any other error."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package in MISSING:
            return f"{package} is not installed"
        error = error.__cause__ or error.__context__
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from tests import levels  # lkops, after the settings above

    levels.mark(items)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    excinfo = getattr(getattr(report, "call", None), "excinfo", None)
    if report.failed and excinfo is not None and (reason := why_skip(excinfo.value)):
        report.outcome, report.longrepr = "skipped", (str(collector.path), None, f"Skipped: {reason}")
    return report


def _skip_for_missing() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if reason := why_skip(error):
            pytest.skip(reason)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    from tests import levels

    if reason := levels.why_too_late(item):
        pytest.skip(reason)
    return (yield from _skip_for_missing())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _skip_for_missing())
