"""Every operator of lkops timed against plain PyTorch, by the path that it had before it moved to `lkops.bench`."""

from lkops.bench import OperatorSpeed, operator_speeds

__all__ = ["OperatorSpeed", "operator_speeds"]
