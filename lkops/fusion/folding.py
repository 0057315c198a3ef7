"""Norms of weights, computed once and for all."""

import copy
from typing import Any

from torch import nn
from torch.nn.utils import parametrizations, parametrize, remove_weight_norm
from torch.nn.utils.weight_norm import WeightNorm

from .report import FusionReport, Left, Replaced
from .sharing import own_tensors


def fold(fused: nn.Module, report: FusionReport) -> None:
    """Make the weights that a norm computes plain parameters of the copy."""
    known = (parametrizations._WeightNorm, parametrizations._SpectralNorm)
    for name, module in list(fused.named_modules()):
        if parametrize.is_parametrized(module):
            lists: Any = module.parametrizations
            for tensor, each in list(lists.items()):
                if not all(isinstance(parametrization, known) for parametrization in each):
                    report.left.append(Left(f"{name}.{tensor}", "parametrisation", "not a weight or spectral norm"))
                    continue
                _remove_parametrization(module, tensor)
                report.replaced.append(Replaced(name, f"norm of {tensor}", "folded"))
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                own_tensors(module)
                remove_weight_norm(module, hook.name)
                report.replaced.append(Replaced(name, f"norm of {hook.name}", "folded"))


def _remove_parametrization(module: nn.Module, tensor: str) -> None:
    """torch's own function changes the original tensor and the class, which the model has too."""
    private = copy.deepcopy(module, {id(p): p for p in module._parameters.values() if p is not None})
    kind = type(private)
    members = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    private.__class__ = type(kind.__name__, kind.__bases__, members)
    parametrize.remove_parametrizations(private, tensor, leave_parametrized=True)
    module.__class__, module.__dict__ = private.__class__, private.__dict__
