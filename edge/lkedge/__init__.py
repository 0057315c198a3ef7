"""Hyperspectral super-resolution networks, run without PyTorch: numpy is all that it needs.

import lkedge

net = lkedge.load("net.lkops")     # a file of `lkca export`
sr = net(lr)                       # (bands, rows, columns) float32 to (bands, scale rows, scale columns)
"""

from .network import Memory, Network, instruction_set, load

__all__ = ["Memory", "Network", "instruction_set", "load"]
__version__ = "0.2.0"
