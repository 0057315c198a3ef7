"""`distill_upsampler`: a compressed network learns from the one that it was made of."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._core import checks
from ..ops.spectral_losses import spectral_losses

__all__ = ["AlignmentResult", "distill_upsampler"]

FALLS = 10  # of D in a course: the paper's frequency of 10 epochs in the 100 that are usual


@dataclass(frozen=True)
class AlignmentResult:
    """What `distill_upsampler` did.

    Attributes:
        steps: that were taken.
        trained: names of the student's parameters that were trained.
        history: one entry a step: loss, l1, sam_loss, gradient (of the supervised part, unweighted), kd (unweighted)
            and decay (D).
    """

    steps: int
    trained: tuple[str, ...]
    history: tuple[dict[str, float], ...]


def distill_upsampler(
    teacher: nn.Module,
    student: nn.Module,
    loader: Iterable[Any],
    *,
    steps: int = 200,
    learning_rate: float = 1e-3,
    final_learning_rate: float = 1e-5,
    alpha: float = 0.01,
    decay: float = 0.66,
    frequency: float | None = None,
    cosine_weight: float = 0.5,
    sam_weight: float = 0.5,
    gradient_weight: float = 0.1,
    floor: float = 0.0,
    train: str = "upsampler",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> AlignmentResult:
    """Align a student's images with its teacher's for a few steps, with the paper's loss and its decay.

        L = D alpha (cosine_weight cosine + sam_weight SAM + gradient_weight gradient)(s, t)
            + (L1 + sam_weight SAM + gradient_weight gradient)(s, y),          D = decay^floor(step / frequency)

    s and t are the images of student and teacher; y is the target that the loader gives, or t where it gives none.
    Adam, with a learning rate that falls as half a cosine.

    Args:
        teacher: the network that was compressed. It runs in evaluation mode without gradients and is left as it was.
        student: what `compress` made of it, on the same device; trained in place, and left in the mode it was in.
        loader: gives inputs (N, B, H, W), or (input, target) pairs; is begun again where it ends before `steps`.
        steps: of the optimizer.
        learning_rate, final_learning_rate: of Adam, at the first and the last step.
        alpha, decay, frequency: weight of the distillation, the factor d by which it falls, and steps f from one fall
            to the next; None is a tenth of the course.
        cosine_weight, sam_weight, gradient_weight: of the terms.
        floor: of the spectra of t and y, in their units, see `lkops.spectral_losses`; 0 is the paper's.
        train: "upsampler" trains the layers that the teacher has not, or with another shape or other values; values in
            another order are the same. "all" trains every parameter.
        progress: called as progress(step, terms) after each step, from 1.

    Returns:
        `AlignmentResult`. Weights are the last step's.

    Raises:
        TypeError, ValueError: an argument that is not as above; a teacher that shares parameters with the student;
            images of several shapes; a loader that gives nothing.
        FloatingPointError: the loss or its gradient is not finite; the weights are those of before that step.

    Source: LKCA-Net (arXiv 2501.18664), section III-D, eq. 17 to 21; the paper trains its student from scratch.
    """
    for name, module in (("teacher", teacher), ("student", student)):
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name} must be a torch.nn.Module, got {type(module).__name__}")
    if not isinstance(loader, Iterable):
        raise TypeError(f"loader must be an iterable of batches, got {type(loader).__name__}")
    steps = checks.positive("steps", steps)
    alpha, cosine_weight = checks.at_least_zero("alpha", alpha), checks.at_least_zero("cosine_weight", cosine_weight)
    sam_weight = checks.at_least_zero("sam_weight", sam_weight)
    gradient_weight = checks.at_least_zero("gradient_weight", gradient_weight)
    final_learning_rate = checks.at_least_zero("final_learning_rate", final_learning_rate)
    learning_rate, decay = _above_zero("learning_rate", learning_rate), _above_zero("decay", decay, most=1)
    frequency = _above_zero("frequency", steps / FALLS if frequency is None else frequency)
    trained = _trained(teacher, student, train)
    optimizer = torch.optim.Adam(trained.values(), lr=learning_rate)
    weights, floor = (cosine_weight, sam_weight, gradient_weight), checks.at_least_zero("floor", floor)
    history = []
    modes = {module: module.training for network in (teacher, student) for module in network.modules()}
    frozen = [p for p in student.parameters() if p.requires_grad and all(p is not q for q in trained.values())]
    batches = _endless(loader)
    try:
        teacher.eval()
        # with fixed features there is nothing for dropout to regularise, and batch norms must keep their statistics
        student.train(train == "all")
        for parameter in frozen:
            parameter.requires_grad_(False)
        for step in range(steps):
            for group in optimizer.param_groups:
                fraction = step / max(steps - 1, 1)
                fall = (1 + math.cos(math.pi * fraction)) / 2
                group["lr"] = final_learning_rate + (learning_rate - final_learning_rate) * fall
            factor = float(decay ** math.floor(step / frequency))
            with torch.enable_grad():
                total, terms = _losses(teacher, student, next(batches), alpha * factor, weights, floor)
            if not math.isfinite(terms["loss"]):
                raise FloatingPointError(f"the loss is {terms['loss']} at step {step + 1}: lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            if not all(p.grad is None or p.grad.isfinite().all() for p in trained.values()):
                raise FloatingPointError(f"the gradient is not finite at step {step + 1}: lower the learning rate")
            optimizer.step()
            history.append({**terms, "decay": factor})
            if progress is not None:
                progress(step + 1, history[-1])
    finally:
        optimizer.zero_grad(set_to_none=True)
        for parameter in frozen:
            parameter.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode
    return AlignmentResult(len(history), tuple(trained), tuple(history))


def _trained(teacher: nn.Module, student: nn.Module, train: str) -> dict[str, nn.Parameter]:
    """The student's parameters to train, by name."""
    if train not in ("upsampler", "all"):
        raise ValueError(f"train must be one of upsampler, all; got {train!r}")
    theirs = {_unwrapped(name): p for name, p in teacher.named_parameters()}
    ours = {name: p for name, p in student.named_parameters() if p.requires_grad}
    shared = {id(parameter) for parameter in theirs.values()}
    for name, parameter in ours.items():
        if id(parameter) in shared:
            raise ValueError(f"teacher and student must not share parameters, and {name} is of both")
    if train == "upsampler":
        changed = {_layer(name) for name, p in ours.items() if not _same(p, theirs.get(_unwrapped(name)))}
        ours = {name: p for name, p in ours.items() if _layer(name) in changed}
    if any(p.dtype is torch.float16 for p in ours.values()):
        raise TypeError("student must not be of float16, in which Adam divides by 0: call .float() on it before")
    if not ours:
        raise ValueError("student must have parameters to train that differ from the teacher's, and has none")
    return ours


def _layer(name: str) -> str:
    """The layer that a parameter is of, also of one whose weight is normalised."""
    return name.rpartition(".")[0].partition(".parametrizations.")[0]


def _unwrapped(name: str) -> str:
    """A parameter's name without the prefixes of torch.compile and of DataParallel."""
    while name.startswith(("_orig_mod.", "module.")):
        name = name.partition(".")[2]
    return name


def _same(one: Tensor, other: Tensor | None) -> bool:
    """Also where a permutation of features went into the weights."""
    if other is None or one.shape != other.shape:
        return False
    return torch.equal(one, other) or torch.equal(one.flatten().sort().values, other.flatten().sort().values)


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("loader must give batches as often as it is asked, and gave none")


def _losses(
    teacher: nn.Module,
    student: nn.Module,
    batch: Any,
    alpha: float,
    weights: tuple[float, float, float],
    floor: float,
) -> tuple[Tensor, dict[str, float]]:
    image, target = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)
    if not isinstance(image, Tensor) or not (target is None or isinstance(target, Tensor)):
        raise TypeError(f"loader must give tensors or (input, target) pairs of them, got {type(image).__name__}")
    with torch.no_grad():
        example = teacher(image)
    made = student(image)
    for name, output in (("teacher", example), ("student", made)):
        if not isinstance(output, Tensor):
            raise TypeError(f"{name} must return an image, a tensor, got {type(output).__name__}")
    for name, other in (("teacher", example), ("target", example if target is None else target)):
        if other.shape != made.shape:
            raise ValueError(
                f"the {name}'s image must have the student's shape {tuple(made.shape)}, got {tuple(other.shape)}"
            )
    _, sam, cosine, gradient = spectral_losses(made, example, floor=floor)
    kd = weights[0] * cosine + weights[1] * sam + weights[2] * gradient
    l1, sam, _, gradient = spectral_losses(made, example if target is None else target, floor=floor)
    total = alpha * kd + l1 + weights[1] * sam + weights[2] * gradient
    names = {"loss": total, "l1": l1, "sam_loss": sam, "gradient": gradient, "kd": kd}
    return total, {name: float(value.detach()) for name, value in names.items()}


def _above_zero(name: str, value: Any, most: float = math.inf) -> float:
    expected = "a finite number above 0" + ("" if most == math.inf else f" and at most {most}")
    real = checks.number(name, value, expected)
    if not 0 < real <= most:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return real
