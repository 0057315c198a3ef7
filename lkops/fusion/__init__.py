"""`fuse`: put lkops' operators into a model, without touching its code, parameters or state dict."""

import copy
import sys
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, remove_weight_norm
from torch.nn.utils.weight_norm import WeightNorm

from .._core import checks
from . import verification
from .planning import Plan, plan
from .progress import Progress
from .report import FusionError, FusionReport, Left, Replaced
from .sharing import own_tensors, rewrite, shared_copy
from .verification import Check

__all__ = ["FusionError", "FusionReport", "Left", "Replaced", "fuse"]


def fuse(
    model: nn.Module,
    example_input: Tensor | tuple[Any, ...] | None = None,
    *,
    check: Check = "full",
    inference: bool = False,
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
    dtype, an attribute of the module changed), is known to be slower, or where a module whose work it does has hooks
    (its own, or those of all modules) or a forward that was put on the object: add and remove hooks as in the model.
    Code that `torch.compile` made sees hooks added later as it does of any module: not before it compiles again.

    A part is left alone wherever its results could differ: what is left, and why, is in the report. Not seen are
    changes, after fusing, of what a forward reads of globals and of its children's plain attributes.

    Args:
        model: any module; of those in it whose forward can't be traced by `torch.fx`, the children are fused alone.
        example_input: a tensor, or the tuple of the model's arguments. With it, the model and what it became are
            compared on it, and the report says what the replaced parts are worth. Buffers, plain attributes, modes and
            gradients of the model stay what they are, and so do the states of the random generators. Above two seconds,
            a line on stderr says what takes so long. Where two forwards of the model take different routes on the
            example (it keeps something outside of itself, has chances of its own, or decides by values that rounding
            changes), there is nothing to compare: everything is left as it was, and the report has the reason.
        check: what is compared, in evaluation and in training mode. Nothing is without an example.
            "full": outputs, of the model and of every module that has another forward; gradients by the example, by
            what goes into these modules and by their parameters (those of all other parameters follow from them); and
            outputs where no gradient is needed. Finds wrong values and wrong gradients.
            "outputs": outputs alone. Finds wrong values; of a wrong gradient it sees nothing.
            False: nothing. What is replaced then rests on the match of the code alone.
        inference: fold weight norms (and spectral norms) into their weights. This changes the keys of the state dict,
            and the folded weights are no longer those of the model.

    Returns:
        (fused, report): see `FusionReport`.

    Raises:
        TypeError: `model` is no module, or one that can't be copied; `example_input` is neither tensor nor tuple;
            `check` is neither string nor False.
        ValueError: `model` is wrapped or compiled already, or can't run the example; `check` is another string.
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
    inference = checks.flag("inference", inference)
    if not isinstance(check, str) and check is not False:
        raise TypeError(f'check must be "full", "outputs" or False, got {check!r}')
    if check not in ("full", "outputs", False):
        raise ValueError(f'check must be "full", "outputs" or False, got {check!r}')
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)) or _is_compiled(model):
        raise ValueError(f"model must be fused before it is wrapped, got a {type(model).__name__}")
    with Progress("lkops.fuse").running() as say:
        return _fuse(model, example_input, check, inference, say)


def _fuse(
    model: nn.Module, example_input: Tensor | tuple[Any, ...] | None, check: Check, inference: bool, say: Progress
) -> tuple[nn.Module, FusionReport]:
    report = FusionReport()
    say("what can be replaced")
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
        try:
            report.checked = _checked(model, fused, found, report, example, check, say)
        except verification.Undecided as reason:
            return _as_it_was(model, report, f"not compared: {reason}", inference=inference)
        if found.replaced:
            say("what the replaced parts are worth")
            report.share = verification.time_share(fused, example)
    return fused, report


def _is_compiled(model: nn.Module) -> bool:
    dynamo = sys.modules.get("torch._dynamo")  # where it is not imported, nothing is compiled; it would import Triton
    return dynamo is not None and isinstance(model, dynamo.OptimizedModule)


def _checked(
    model: nn.Module,
    fused: nn.Module,
    found: Plan,
    report: FusionReport,
    example: tuple[Any, ...],
    check: Check,
    say: Progress,
) -> str:
    """Compare the models; says what was compared."""
    if check is False:
        return "not checked on the example input (check=False)"
    folded = {part.place for part in report.replaced if part.operator == "folded"}
    changed = {id(each.module) for each in found.rewrites}
    changed -= {id(part) for each in found.rewrites for part in each.parts}
    places = [name for name, module in fused.named_modules() if id(module) in changed or name in folded]
    if not places:  # the code is the same
        check = "outputs"
    return verification.check(model, fused, example, places, check, say)


def _as_it_was(model: nn.Module, report: FusionReport, why: str, *, inference: bool) -> tuple[nn.Module, FusionReport]:
    """A copy without any operators, and a report that says so."""
    plain, left = shared_copy(model), FusionReport(left=report.left, notes=report.notes)
    if inference:
        _fold(plain, FusionReport())
    for part in report.replaced:
        if part.operator == "folded":
            left.replaced.append(part)
        else:
            left.left.append(Left(part.place, part.pattern, why))
    left.checked = why
    return plain, left


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
