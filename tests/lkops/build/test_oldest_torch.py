"""The bindings against the headers of the oldest torch that pyproject.toml allows: what is newer fails here, and not on
the machine of someone who has that torch."""

import sysconfig
from pathlib import Path

import pytest

from tests import oldest_torch
from tests.lkops.build.building import ROOT, binding_command, compilers, run

BINDINGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("bindings/**/*.cpp"))


@pytest.mark.exhaustive
@pytest.mark.skipif(
    not oldest_torch.is_there(),
    reason="no headers of the oldest torch: `python -m tests.oldest_torch`, or LKOPS_OLDEST_TORCH",
)
@pytest.mark.skipif(not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="no headers of Python")
@pytest.mark.skipif(not compilers(), reason="no g++ >= 11 and no clang++ >= 14")
@pytest.mark.parametrize("source", BINDINGS)
def test_binding(source: str) -> None:
    """CUDA's too: they need no CUDA toolkit."""
    headers = oldest_torch.folder() / "torch" / "include"
    command = binding_command([headers, Path(sysconfig.get_path("include"))])
    done = run(next(iter(compilers())), *command, source)
    assert done.returncode == 0, done.stderr


def test_setup_targets_the_oldest_torch() -> None:
    """TORCH_TARGET_VERSION hides from the bindings what came later to the stable ABI; it is that of pyproject.toml."""
    major, minor, _ = oldest_torch.version().split(".")
    assert f'TORCH_TARGET_VERSION = "0x{int(major):02x}{int(minor):02x}000000000000"' in (ROOT / "setup.py").read_text()
