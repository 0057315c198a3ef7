"""Headers of the oldest torch that pyproject.toml allows, for tests/lkops/build/test_oldest_torch.py; `make test-all`
runs

    python -m tests.oldest_torch        into build/oldest-torch-*, unless they are there

LKOPS_OLDEST_TORCH names the folder, such as a site-packages, of a torch that is there already.
The wheel for Linux on Arm is the one without CUDA that a plain index has: 146 MB, of which 38 MB are headers, the same
for every processor.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version() -> str:
    """As pyproject.toml has it, such as 2.10.0."""
    found = re.search(r'"torch>=(\d+\.\d+)"', (ROOT / "pyproject.toml").read_text())
    if found is None:
        raise ValueError("pyproject.toml says nothing of torch>=")
    return found[1] + ".0"


def folder() -> Path:
    """Where that torch lies, or would: the folder that holds torch/include."""
    return Path(os.environ.get("LKOPS_OLDEST_TORCH") or ROOT / "build" / f"oldest-torch-{version()}")


def is_there() -> bool:
    return (folder() / "torch/include/torch/csrc/stable/tensor.h").is_file()


def download(target: Path) -> None:
    """Raises RuntimeError with pip's reason where there is no network."""
    with tempfile.TemporaryDirectory() as name:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--retries=1",
            "--timeout=30",
            "-d",
            name,
        ]
        command += ["--timeout=30", "--only-binary=:all:", "--platform=manylinux_2_28_aarch64", "--python-version=311"]
        done = subprocess.run([*command, f"torch=={version()}"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip download torch=={version()}: {done.stderr.strip()[-300:]}")
        (wheel,) = Path(name).glob("torch-*.whl")
        with zipfile.ZipFile(wheel) as zipped:
            zipped.extractall(name, [entry for entry in zipped.namelist() if entry.startswith("torch/include/")])
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        partial.mkdir(parents=True)
        shutil.move(Path(name) / "torch", partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)


def main() -> None:
    if is_there():
        return
    if os.environ.get("LKOPS_OLDEST_TORCH"):
        raise SystemExit(f"LKOPS_OLDEST_TORCH: no torch/include with torch's stable ABI in {folder()}")
    try:
        download(folder())
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        print(f"headers of torch {version()} can't be had, their test is skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
