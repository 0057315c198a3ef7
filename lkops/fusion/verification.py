"""Whether a fused model gives the results of the model, on an example."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from . import accuracies, ways
from .comparison import compare, distance, unlike
from .hooks import no_global_hooks
from .progress import Progress
from .report import FusionError
from .running import Results, Run, restored, run

Check = Literal["full", "outputs", False]


class Undecided(Exception):
    """Why the results of the two models say nothing about what was replaced."""


@dataclass
class _Example:
    """What each run is of.

    Attributes:
        places: paths of the modules with another forward that are called.
        leaves: names of the parameters whose gradients are compared.
        level: "full" or "outputs".
    """

    arguments: tuple[Any, ...]
    places: Sequence[str]
    leaves: Sequence[str]
    level: str
    say: Progress
    exact: nn.Module | None = None
    truth: tuple[bool, Results] | None = None  # the last in float64, and its mode

    def run(self, model: nn.Module, *, gradients: bool = True, **options: Any) -> Run:
        gradients = gradients and self.level == "full"
        return run(model, self.arguments, gradients=gradients, places=self.places, leaves=self.leaves, **options)

    def run_exactly(self, model: nn.Module, names: list[str], *, gradients: bool) -> Results | None:
        """At least these results of the model in float64; some can't be copied, or have a dtype written into them."""
        if self.truth is not None and self.truth[0] == model.training and self.truth[1].keys() >= set(names):
            return self.truth[1]
        try:
            if self.exact is None:
                self.exact = copy.deepcopy(model).double()
            self.exact.train(model.training)
            for ours, theirs in zip(self.exact.modules(), model.modules(), strict=True):
                ours.training = theirs.training
            found = self.run(self.exact, gradients=gradients, dtype=torch.float64, only=names).results
        except Exception:
            return None
        self.truth = (model.training, found)
        return found


@no_global_hooks()
def check(
    model: nn.Module, fused: nn.Module, example: tuple[Any, ...], places: Sequence[str], level: Check, say: Progress
) -> str:
    """Compare a model and what became of it, in evaluation and in training mode, with the same random numbers.

    Parts are computed in their exact form. With the outputs, what comes out of each of the modules at `places` is
    compared: with "full", in gradients by what goes in there and by their parameters too. All others run the same code
    on both sides, so by the chain rule their gradients are right where these are. Training's gradients are not computed
    where its graph and values are, to the bit, those of evaluation. Float64 is only run where the difference of the two
    models alone does not show that it is within the rule of `lkops.fuse`.

    Args:
        places: paths of the modules with another forward, those that no other forward does the work of.
        level: "full", or "outputs" for no gradients.

    Returns:
        What was compared, in words.

    Raises:
        ValueError: the model itself can't run the example.
        Undecided: the model's forwards take different routes.
        FusionError: something differs by more than rounding does.
    """
    with restored(model, fused), ways.with_accuracy("exact"):
        accuracies.put("exact", model, fused)
        return _check(model, fused, example, places, level, say)


def _check(
    model: nn.Module, fused: nn.Module, example: tuple[Any, ...], places: Sequence[str], level: Check, say: Progress
) -> str:
    given, theirs = dict(fused.named_parameters()), dict(model.named_parameters())
    within = set(places)
    leaves = [
        name
        for name, parameter in given.items()
        if parameter is theirs.get(name) and parameter.requires_grad and not within.isdisjoint(_above(name))
    ]
    case = _Example(example, places, leaves, str(level), say)
    compared, unchecked = 0, list[str]()
    first: tuple[Run, Run] | None = None
    for training in (False, True):
        model.train(training)
        fused.train(training)
        mode = "training" if training else "evaluation"
        eager, why = _eager(case, model, mode, first and first[0])
        if eager is None:
            if not training:
                raise ValueError(f"model(*example_input) failed: {why}")
            unchecked.append(f"{mode}, where the model fails: {why}")  # as a batch norm over one value
            continue
        gradients = not why and level == "full"
        if why:
            unchecked.append(f"gradients in {mode}, where the model fails: {why}")
        say(f"{mode} mode of the fused model")
        ours = _fused(case, model, fused, eager, mode, gradients=gradients, like=first and first[1])
        if eager.repeats and not ours.repeats:
            eager = case.run(model)
        elif ours.repeats and not eager.repeats:
            ours = _fused(case, model, fused, eager, mode, gradients=gradients)
        if not ours.repeats:
            _judge(case, model, ours, eager, mode, gradients=gradients)
        compared += len(eager.results)
        if not training:
            first = (eager, ours) if gradients else None
            if gradients:  # operators that are worth it without a backward only
                say("inference of the fused model")
                plain = _fused(case, model, fused, eager, "inference", gradients=False)
                if plain.route != eager.route or unlike(plain.results, eager.values()):
                    without = case.run(model, gradients=False)  # a forward may ask whether gradients are on
                    if without.route != eager.route or unlike(without.results, eager.values()):
                        case.truth = None
                    _judge(case, model, plain, without, "inference", gradients=False)
    what = "outputs and gradients" if level == "full" else "outputs, no gradients,"
    said = f'checked on the example input (check="{level}"): {compared} {what} in evaluation and training mode'
    return "; ".join([said, *[f"not {what}" for what in unchecked]])


@no_global_hooks()
def relaxed_error(fused: nn.Module, example: tuple[Any, ...]) -> float:
    """How far outputs in evaluation mode are from those of the exact form, over the largest value of each.

    Raises:
        FusionError: more than 1e-4, or 8 eps of the outputs' dtype.
    """
    with restored(fused):
        fused.eval()
        ours = run(fused, example, gradients=False).results
        accuracies.put("exact", fused)
        with ways.with_accuracy("exact"):
            exact = run(fused, example, gradients=False).results
    worst = 0.0
    for name, value in exact.items():
        if value.is_floating_point() and value.numel():
            error, largest = distance(ours[name], value), value.abs().max().item()
            if not error <= max(1e-4, 8 * torch.finfo(value.dtype).eps) * largest:
                raise FusionError(
                    f"{name} differs by {error:.3g} in the relaxed form; its largest value is {largest:.3g}"
                )
            worst = max(worst, error / largest if largest else 0.0)
    return worst


def _above(name: str) -> list[str]:
    """Paths of the modules that a parameter is in."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts))]


def _eager(case: _Example, model: nn.Module, mode: str, like: Run | None) -> tuple[Run | None, str]:
    """The model's run, and why it has no gradients; or None, and why it fails."""
    case.say(f"{mode} mode of the model")
    try:
        return case.run(model, like=like), ""
    except Exception as failure:
        try:  # some models are for inference only
            plain = case.run(model, gradients=False)
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"
        return plain, str(failure) if case.level == "full" else ""


def _fused(
    case: _Example,
    model: nn.Module,
    fused: nn.Module,
    eager: Run,
    mode: str,
    *,
    gradients: bool,
    like: Run | None = None,
) -> Run:
    try:
        return case.run(fused, gradients=gradients, like=like)
    except Exception as error:
        _repeatable(case, model, eager, gradients=gradients)
        raise FusionError(f"the fused model fails in {mode}: {type(error).__name__}: {error}") from error


def _judge(case: _Example, model: nn.Module, ours: Run, eager: Run, mode: str, *, gradients: bool) -> None:
    """Raise if something differs."""
    theirs = eager.results if gradients else eager.values()

    def exact(names: list[str]) -> Results | None:
        case.say(f"{mode} mode of the model in float64")
        return case.run_exactly(model, names, gradients=gradients)

    try:
        compare(ours.results, theirs, exact, mode)
    except FusionError:
        _repeatable(case, model, eager, gradients=gradients)
        if ours.route != eager.route:
            raise Undecided(
                "the model takes another route after fusing: what it decides by values changes with rounding"
            ) from None
        raise


def _repeatable(case: _Example, model: nn.Module, eager: Run, *, gradients: bool) -> None:
    """Run the model once more.

    Raises:
        Undecided: it does not give what it gave.
    """
    why = "two forwards of the model take different routes on the same example and random numbers"
    try:
        again = case.run(model, gradients=gradients)
    except Exception as error:
        raise Undecided(f"{why}: the second fails, {type(error).__name__}: {error}") from None
    if again.route != eager.route:
        raise Undecided(why)
    try:
        compare(again.results, eager.results if gradients else eager.values(), lambda names: None, "")
    except FusionError:
        raise Undecided(f"{why}: their results differ") from None
