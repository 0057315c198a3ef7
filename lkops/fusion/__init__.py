"""`fuse`: put lkops' operators into a model, without touching its code, parameters or state dict."""

import sys
from typing import Any, Literal, get_args

from torch import Tensor, nn

from .._core import checks
from .fusing import Fusion
from .progress import Progress
from .report import FusionError, FusionReport, Left, Replaced
from .verification import Check

__all__ = ["FusionError", "FusionReport", "Left", "Replaced", "fuse"]

Accuracy = Literal["exact", "relaxed"]
Keep = Literal["faster", "all"]


def fuse(
    model: nn.Module,
    example_input: Tensor | tuple[Any, ...] | None = None,
    *,
    check: Check = "full",
    inference: bool = False,
    accuracy: Accuracy = "exact",
    keep: Keep = "faster",
) -> tuple[nn.Module, FusionReport]:
    """Replace the parts of a model that one of lkops' operators computes.

    What is found, in modules and in code of any `forward`:

    - conv (odd kernel, stride 1, zero padding that keeps the size, any groups) -> PixelShuffle, alone or with torch's
      bicubic image added: `upsample_add`; torch's bicubic interpolation by a whole factor: `bicubic_upsample`;
    - depthwise conv that keeps the size, with any dilation: `depthwise_conv2d`;
    - x * sigmoid(expand(relu(reduce(mean of x)))) with 1x1 convs or linears: `channel_attention`;
    - layer norm over channels (permuted or written out) -> 1x1 conv -> GELU: `norm_conv1x1_gelu`;
    - on CPUs, convs that Winograd's algorithm is for, with as much as follows of activation, product with a number, and
      sum with another image: `conv2d`.

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
            compared on it, and the parts are timed, see `keep`: give one of the size that is in use. Buffers, plain
            attributes, modes and gradients of the model stay what they are, and so do the states of the random
            generators. Above two seconds, a line on stderr says what takes so long. Where two forwards of the model
            take different routes on the example (it keeps something outside of itself, has chances of its own, or
            decides by values that rounding changes), there is nothing to compare: everything is left as it was, and
            the report has the reason.
        check: what is compared, in evaluation and in training mode. Nothing is without an example.
            "full": outputs, of the model and of every module that has another forward; gradients by the example, by
            what goes into these modules and by their parameters (those of all other parameters follow from them); and
            outputs where no gradient is needed. Finds wrong values and wrong gradients.
            "outputs": outputs alone. Finds wrong values; of a wrong gradient it sees nothing.
            False: nothing. What is replaced then rests on the match of the code alone.
        inference: fold weight norms (and spectral norms) into their weights. This changes the keys of the state dict,
            and the folded weights are no longer those of the model.
        accuracy: of convs, as `lkops.conv2d` has it. With "relaxed", which needs fewer multiplications, the fused model
            is compared in its exact form; then its outputs in the relaxed form, which may differ from those by 1e-4
            of the largest value (each conv's by 1e-5).
        keep: with an example, which parts stay replaced. "faster": those that take less time with the operator, in an
            inference, and none where the whole model does not; on CPUs in channels_last memory where that takes less
            time still (results are contiguous all the same). "all": all, to use the model at other sizes too.

    Returns:
        (fused, report): see `FusionReport`.

    Raises:
        TypeError: `model` is no module, or one that can't be copied; `example_input` is neither tensor nor tuple;
            `check` is neither string nor False; `accuracy` or `keep` is no string.
        ValueError: `model` is wrapped or compiled already, or can't run the example; `check`, `accuracy` or `keep` is
            another string.
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
    asked = checks.choice("accuracy", accuracy, get_args(Accuracy))
    kept = checks.choice("keep", keep, get_args(Keep))
    if not isinstance(check, str) and check is not False:
        raise TypeError(f'check must be "full", "outputs" or False, got {check!r}')
    if check not in ("full", "outputs", False):
        raise ValueError(f'check must be "full", "outputs" or False, got {check!r}')
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)) or _is_compiled(model):
        raise ValueError(f"model must be fused before it is wrapped, got a {type(model).__name__}")
    example = (example_input,) if isinstance(example_input, Tensor) else example_input
    with Progress("lkops.fuse").running() as say:
        return Fusion(model, example, check, inference, asked, kept, say).run()


def _is_compiled(model: nn.Module) -> bool:
    dynamo = sys.modules.get("torch._dynamo")  # where it is not imported, nothing is compiled; it would import Triton
    return dynamo is not None and isinstance(model, dynamo.OptimizedModule)
