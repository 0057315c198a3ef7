"""What works on tensors where torch is installed and numpy is not."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, warnings
import torch

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numpy":
            raise ModuleNotFoundError(name, name=name)

for name in [name for name in sys.modules if name.partition(".")[0] == "numpy"]:
    del sys.modules[name]
sys.meta_path.insert(0, Without())
warnings.simplefilter("ignore")

import lkcanet
from lkcanet import evaluation, inference, objectives
from lkcanet.models import LKCANet

network, image = LKCANet(4, 2, 16, 1, 1, reduction=8).eval(), torch.rand(1, 4, 12, 12)
sharp = lkcanet.super_resolve(network, image)
assert torch.equal(sharp, inference.super_resolve(network, image))
assert lkcanet.evaluate(sharp, sharp, 2) == evaluation.evaluate(sharp, sharp, 2)
assert "numpy" not in sys.modules and "lkcanet.data" not in sys.modules
"""


def test_networks_and_scores_of_tensors() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
