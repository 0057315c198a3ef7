"""Whether a fused model gives the results of the model, on an example."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from . import calls
from .report import FusionError

Results = dict[str, Tensor]


def check(model: nn.Module, fused: nn.Module, example: tuple[Any, ...]) -> str:
    """Compare outputs and gradients, in evaluation and in training mode, with the same random numbers.

    Returns:
        What was compared, in words.

    Raises:
        ValueError: the model itself can't run the example.
        FusionError: something differs by more than rounding does.
    """
    compared, unchecked = 0, list[str]()
    exact_model = _double(model)
    with _restored(model, fused):
        for training in (False, True):
            model.train(training)
            fused.train(training)
            mode = "training" if training else "evaluation"
            gradients = True
            try:
                eager = _run(model, example, None)
            except Exception as failure:
                try:  # some models are for inference only
                    eager, gradients = _run(model, example, None, gradients=False), False
                except Exception as error:
                    if not training:
                        raise ValueError(f"model(*example_input) failed: {type(error).__name__}: {error}") from error
                    unchecked.append(f"{mode}, where the model fails: {failure}")  # as a batch norm over one value
                    continue
                unchecked.append(f"gradients in {mode}, where the model fails: {failure}")
            exact: Results | None = None
            if exact_model is not None:
                exact_model.train(training)
                try:
                    exact = _run(exact_model, example, torch.float64, gradients=gradients)
                except Exception:  # a dtype that is written into the model
                    exact = None
            ours = _run(fused, example, None, gradients=gradients)
            compared += _compare(ours, eager, exact, mode)
    said = f"checked on the example input: {compared} outputs and gradients, in evaluation and training mode"
    return "; ".join([said, *[f"not {what}" for what in unchecked]])


def _double(model: nn.Module) -> nn.Module | None:
    try:
        return copy.deepcopy(model).double()
    except Exception:  # some models can't be copied, as those with an old weight norm
        return None


@contextmanager
def _restored(*models: nn.Module) -> Iterator[None]:
    """Put modes, and the values of the first model's buffers, back: batch norm and others change theirs."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in models[0].buffers() if not buffer.is_meta]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


class _SameDraws(TorchFunctionMode):
    """Random masks are drawn in the order of memory, which an operator may change: draw them for contiguous tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if args and isinstance(args[0], Tensor) and (name in ("dropout", "bernoulli") or name.endswith("_like")):
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def _run(model: nn.Module, example: tuple[Any, ...], dtype: torch.dtype | None, *, gradients: bool = True) -> Results:
    """What `_results` gives, with the buffers put back."""
    with _restored(model):
        return _results(model, example, dtype, gradients)


def _results(model: nn.Module, example: tuple[Any, ...], dtype: torch.dtype | None, gradients: bool) -> Results:
    """Outputs, and gradients of a fixed weighted sum of them by floating inputs and parameters."""

    def prepare(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().clone()
        if value.is_floating_point():
            value = value.to(dtype or value.dtype).requires_grad_(gradients)
        return value

    inputs = pytree.tree_map(prepare, example)
    devices = {t.device for t in pytree.tree_leaves(inputs) if isinstance(t, Tensor) and t.is_cuda}
    generators = torch.random.fork_rng(devices=[device.index or 0 for device in devices])
    with generators, torch.set_grad_enabled(gradients), _SameDraws():
        torch.manual_seed(0)
        outputs = [t for t in pytree.tree_leaves(model(*inputs)) if isinstance(t, Tensor)]
    results = {f"output {i}": _real(output.detach().clone()) for i, output in enumerate(outputs)}
    if not gradients:
        return results
    leaves: dict[str, Tensor] = {f"gradient of {n}": p for n, p in model.named_parameters() if p.requires_grad}
    for i, value in enumerate(pytree.tree_leaves(inputs)):
        if isinstance(value, Tensor) and value.requires_grad:
            leaves[f"gradient of input {i}"] = value
    draw = torch.Generator().manual_seed(1)
    total = sum(
        (output * torch.randn(output.shape, generator=draw, dtype=torch.float64).to(output)).sum().double()
        for output in map(_real, outputs)
        if output.requires_grad
    )
    if isinstance(total, Tensor) and leaves:
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        results |= {name: _real(grad) for name, grad in zip(leaves, grads, strict=True) if grad is not None}
    return results


def _real(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


def _compare(ours: Results, eager: Results, exact: Results | None, mode: str) -> int:
    """Raise if one differs; see `lkops.fuse` for the rule."""
    if ours.keys() != eager.keys():
        raise FusionError(f"the fused model has other outputs or gradients in {mode}: {set(ours) ^ set(eager)}")
    if exact is not None and (exact.keys() != eager.keys() or not _same_run(eager, exact)):
        exact = None  # random numbers differ in float64, or something is float32 whatever comes
    largest = max((v.abs().max().item() for k, v in eager.items() if "gradient" in k and v.numel()), default=0.0)
    errors = []
    for name, value in eager.items():
        if exact is not None and (top := _top(exact[name])):
            errors.append(_top(value.double() - exact[name]) / top)
    usual = sorted(errors)[len(errors) // 2] if errors else 0.0
    for name, value in eager.items():
        if ours[name].shape != value.shape or ours[name].dtype != value.dtype:
            raise FusionError(
                f"{name} is {tuple(ours[name].shape)} {ours[name].dtype} after fusing, and was {tuple(value.shape)} "
                f"{value.dtype}, in {mode}"
            )
        if not value.numel() or not value.is_floating_point():
            continue
        eps = torch.finfo(value.dtype).eps
        truth = value.double() if exact is None else exact[name].double()
        if exact is None:
            allowed = 1000 * eps * _top(truth)
        else:
            allowed = 2 * _top(value.double() - truth) + max(4 * eps, 4 * usual) * _top(truth)
        if "gradient" in name:
            allowed += 4 * eps * largest
        finite = value.isfinite()  # where the model gives infinities or no numbers, so must the other
        error = _top((ours[name].double() - truth)[finite])
        if not torch.equal(ours[name].isfinite(), finite) or not error <= allowed:
            raise FusionError(f"{name} differs by {error:.3g} after fusing, in {mode}; rounding allows {allowed:.3g}")
    return len(eager)


def _same_run(eager: Results, exact: Results) -> bool:
    outputs = [name for name in eager if name.startswith("output")]
    return all(_top(eager[n].double() - exact[n].double()) <= 0.05 * _top(exact[n]) for n in outputs)


def _top(value: Tensor) -> float:
    value = value[value.isfinite()]
    return value.abs().max().item() if value.numel() else 0.0


def time_share(fused: nn.Module, example: tuple[Any, ...], repeats: int = 3) -> float:
    """The share of an inference that the replaced parts take when PyTorch's operators compute them; the median."""
    shares = []
    modes = [(module, module.training) for module in fused.modules()]
    fused.eval()
    try:
        with torch.no_grad(), calls.timing() as clock:
            for _ in range(repeats + 1):
                clock[0], start = 0.0, time.perf_counter()
                fused(*example)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                shares.append(clock[0] / (time.perf_counter() - start))
    finally:
        for module, training in modes:
            module.training = training
    return sorted(shares[1:])[repeats // 2]
