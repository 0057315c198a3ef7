"""`fuse`: put lkops' operators into a model, without touching its code, parameters or state dict."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, remove_weight_norm
from torch.nn.utils.weight_norm import WeightNorm

from . import verification
from .planning import plan
from .report import FusionError, FusionReport, Left, Replaced
from .sharing import own_tensors, rewrite, shared_copy

__all__ = ["FusionError", "FusionReport", "Left", "Replaced", "fuse"]


def fuse(
    model: nn.Module, example_input: Tensor | tuple[Any, ...] | None = None, *, inference: bool = False
) -> tuple[nn.Module, FusionReport]:
    """Replace the parts of a model that one of lkops' operators computes.

    What is found, in modules and in code of any `forward`:

    - conv (odd kernel, stride 1, zero padding that keeps the size, any groups) -> PixelShuffle, alone or with torch's
      bicubic image added: `upsample_add`; torch's bicubic interpolation by a whole factor: `bicubic_upsample`;
    - depthwise conv that keeps the size, with any dilation: `depthwise_conv2d`;
    - x * sigmoid(expand(relu(reduce(mean of x)))) with 1x1 convs or linears: `channel_attention`;
    - layer norm over channels (permuted or written out) -> 1x1 conv -> GELU: `norm_conv1x1_gelu`.

    The fused model is a copy of the module tree that holds the same Parameters and buffers: its state dict is the
    model's, training either trains both, and the model itself is not changed. It can be trained, copied, pickled where
    the model can, compiled, and wrapped for several devices. The operators have no double backward (see
    `lkops.backend`). At every call a part computes what it did before fusing where the operator would not fit (another
    dtype, hooks added since, an attribute of the module changed) or is known to be slower.

    A part is left alone wherever its results could differ: what is left, and why, is in the report. Not seen are
    changes, after fusing, of what a forward reads of globals and of its children's plain attributes.

    Args:
        model: any module; of those in it whose forward can't be traced by `torch.fx`, the children are fused alone.
        example_input: a tensor, or the tuple of the model's arguments. With it, outputs and gradients by inputs and
            parameters are compared before and after, in evaluation and training mode, and the report says what the
            replaced parts are worth. Buffers, modes and gradients of the model stay what they are.
        inference: fold weight norms (and spectral norms) into their weights. This changes the keys of the state dict,
            and the folded weights are no longer those of the model.

    Returns:
        (fused, report): see `FusionReport`.

    Raises:
        TypeError: `model` is no module, or one that can't be copied; `example_input` is neither tensor nor tuple.
        ValueError: `model` is wrapped or compiled already, or can't run the example.
        FusionError: with an example: results differ by more than rounding. With r the same in float64, the rule is
            |fused - r| <= 2 |model - r| + max(4 eps, 4 m) max|r|, m the median over all results of
            max|model - r| / max|r|, for gradients plus 4 eps times the largest gradient; where float64 can't run,
            1000 eps max|model|.

    Source: the technique is torch.fx (Reed et al., MLSys 2022); its trace is of one module's forward at a time.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if example_input is not None and not isinstance(example_input, (Tensor, tuple)):
        raise TypeError(f"example_input must be a tensor or a tuple of arguments, got {type(example_input).__name__}")
    wrapped = (nn.parallel.DistributedDataParallel, nn.DataParallel, torch._dynamo.OptimizedModule)
    if isinstance(model, wrapped):
        raise ValueError(f"model must be fused before it is wrapped, got a {type(model).__name__}")
    report = FusionReport()
    fused = shared_copy(model)
    if inference:
        _fold(fused, report)
    found = plan(fused)
    untraced = [Left(name, "forward", f"can't be traced: {why}") for name, why in found.untraced.items()]
    order = [name for name, _ in fused.named_modules()]
    report.replaced += sorted(found.replaced.values(), key=lambda part: _position(order, part.place))
    report.left += sorted([*found.left.values(), *untraced], key=lambda part: _position(order, part.place))
    for each in found.rewrites:
        rewrite(each.module, each.source, each.guards, each.parts)
    if found.already:
        report.notes.append(f"{found.already} modules were fused before")
    if example_input is not None:
        example = (example_input,) if isinstance(example_input, Tensor) else example_input
        report.checked = verification.check(model, fused, example)
        if found.replaced:
            report.share = verification.time_share(fused, example)
    return fused, report


def _position(order: list[str], place: str) -> int:
    """Where the module that a place is in stands in the model."""
    while place and place not in order:
        place = place.rpartition(".")[0]
    return order.index(place)


def _fold(fused: nn.Module, report: FusionReport) -> None:
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
