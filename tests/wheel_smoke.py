"""An installed wheel: every operator on its C++ kernels, with a gradient, held to the rule of `lkops.testing`.

python -I tests/wheel_smoke.py      -I: what is installed, not the checkout beside this file
"""

import sys

import torch

import lkops
from lkops import testing

names = lkops.backends.operators()
for name in names:
    testing.check(name, "cpu", "cpu", torch.float32, testing.examples(name).of("small")[0])
versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}, lkops {lkops.__version__}"
print(f"{versions}: all {len(names)} operators on C++ kernels, as good as eager")
