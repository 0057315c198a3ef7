"""What `import lkops` brings along, each in a fresh process."""

import json
import subprocess
import sys
from typing import Any

IN_IT = """
import json, sys
import torch
before = set(sys.modules)
import lkops
after = set(sys.modules)
"""
FUSE_AND_COMPRESS = """
model = torch.nn.Sequential(torch.nn.Conv2d(3, 48, 3, padding=1), torch.nn.PixelShuffle(2))
image = torch.rand(1, 3, 8, 8)
fused, fusion = lkops.fuse(model, image, keep="all")
assert fusion.replaced and fused(image).shape == (1, 12, 16, 16)
fused(image).sum().backward()
small, compression = lkops.compress(model, rank=5, calibration=[image], example_input=image)
assert compression.macs == (82944, 24000)
"""


def in_a_process(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def packages(modules: list[str]) -> set[str]:
    """The packages of modules, without those of the standard library; `_sysconfigdata...` has the platform's name."""
    tops = {module.partition(".")[0] for module in modules}
    return {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_sysconfigdata")}


def test_importing_lkops_imports_torch_and_the_standard_library_alone() -> None:
    new = in_a_process(f"{IN_IT}print(json.dumps(sorted(after - before)))")
    assert "lkops" in new
    alone = [module for module in new if module.partition(".")[0] == "torch"]
    brought = in_a_process(
        f"import json, sys, torch, importlib\nfor module in {alone}: importlib.import_module(module)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert packages(new) - packages(brought) == {"lkops"}
    assert not packages(new) & {"triton", "sympy"}  # of torch's own, those that take long
    assert "torch._dynamo" not in new


def test_what_runs_on_the_cpu_imports_no_triton() -> None:
    """Operators, fuse and compress: neither Triton nor torch's compiler, which imports it."""
    modules = in_a_process(f"{IN_IT}{FUSE_AND_COMPRESS}print(json.dumps(sorted(sys.modules)))")
    assert not {"triton", "torch._dynamo"} & set(modules)
