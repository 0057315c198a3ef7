"""From a model to its fused copy: plan, compare, time, and take back what is not worth it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from . import accuracies, formats, measuring, verification
from .folding import fold
from .planning import Plan, plan
from .progress import Progress
from .report import FusionReport, Left
from .sharing import rewrite, shared_copy
from .verification import Check


@dataclass
class Fusion:
    """What `lkops.fuse` was given."""

    model: nn.Module
    example: tuple[Any, ...] | None
    check: Check
    inference: bool
    accuracy: str
    keep: str
    say: Progress

    def run(self) -> tuple[nn.Module, FusionReport]:
        """The fused model and its report."""
        self.say("what can be replaced")
        fused, found, report = self._replaced({})
        if self.example is None:
            return self._with_accuracy(fused), report
        try:
            checked = self._checked(fused, found, report, self.check)
            if found.replaced:
                self.say("what the replaced parts are worth")
                parts = measuring.parts_of(self._with_accuracy(fused), self.example, found.patterns())
                if self.keep == "faster" and (slow := _slow(fused, found, parts)):
                    fused, found, report = self._replaced(slow)
                    self._checked(fused, found, report, "outputs" if self.check else False)
                report.replaced = [found.timed(part, parts) for part in report.replaced]
                rest = self._time(fused, report) - sum(part.least for part in parts.values())
                eager = sum(part.eager for part in parts.values())
                report.share = eager / (eager + max(rest, 0.01 * eager))
            report.checked = checked + self._relaxed(fused)
        except verification.Undecided as reason:
            return self._as_it_was(report, f"not compared: {reason}")
        if self.keep == "faster" and found.replaced and report.after > report.before:  # type: ignore[operator]
            said = f"the fused model takes {report.after:.3f} ms on the example, the model {report.before:.3f} ms"
            return self._as_it_was(report, said)
        return fused, report

    def _time(self, fused: nn.Module, report: FusionReport) -> float:
        """Time the model and the fused one; of this also in channels_last memory, which stays where it is faster.

        Returns:
            Milliseconds of the fused model in contiguous memory.
        """
        assert self.example is not None
        models = (self.model, self._with_accuracy(fused))
        before, contiguous = report.before, report.after = measuring.times(models, self.example)
        if self.keep == "all" or not formats.is_worth_a_try(fused, self.example):
            return contiguous
        handles = formats.run_in_channels_last(fused)
        try:
            if self.check:
                verification.check(self.model, fused, self.example, (), "outputs", self.say)
            again, after = measuring.times(models, self.example)
        except Exception:  # views of images, as a rule
            again, after = 1.0, math.inf
        if after / again < contiguous / before / measuring.LEAST_GAIN:
            report.notes.append(f"runs in channels_last memory, contiguous it takes {contiguous:.2f} ms")
            report.before, report.after = again, after
            return contiguous
        for handle in handles:
            handle.remove()
        return contiguous

    def _with_accuracy(self, fused: nn.Module) -> nn.Module:
        if self.accuracy == "relaxed":
            accuracies.put(self.accuracy, fused)
        return fused

    def _relaxed(self, fused: nn.Module) -> str:
        """What to say of how far the relaxed form is off."""
        assert self.example is not None
        if self.accuracy == "exact" or self.check is False:
            return ""
        self.say("the fused model in its relaxed form")
        error = verification.relaxed_error(self._with_accuracy(fused), self.example)
        return f"; relaxed: {error:.1e} of the largest value more"

    def _replaced(self, without: Mapping[str, str]) -> tuple[nn.Module, Plan, FusionReport]:
        """A copy of the model with all parts replaced, but those with these parameters as their weights."""
        report, fused = FusionReport(), shared_copy(self.model)
        if self.inference:
            fold(fused, report)
        named = fused.named_parameters(remove_duplicate=False) if without else ()
        found = plan(fused, self.accuracy, {id(p): without[name] for name, p in named if name in without})
        untraced = [Left(name, "forward", f"can't be traced: {why}") for name, why in found.untraced.items()]
        order = [name for name, _ in fused.named_modules()]
        report.replaced += sorted(found.replaced.values(), key=lambda part: _position(order, part.place))
        report.left += sorted([*found.left.values(), *untraced], key=lambda part: _position(order, part.place))
        for each in found.rewrites:
            rewrite(each.module, each.source, each.guards, each.parts)
        if found.already:
            report.notes.append(f"{found.already} modules were fused before")
        return fused, found, report

    def _checked(self, fused: nn.Module, found: Plan, report: FusionReport, level: Check) -> str:
        """Compare the models; says what was compared."""
        assert self.example is not None
        if level is False:
            return "not checked on the example input (check=False)"
        folded = {part.place for part in report.replaced if part.operator == "folded"}
        changed = {id(each.module) for each in found.rewrites}
        changed -= {id(part) for each in found.rewrites for part in each.parts}
        places = [name for name, module in fused.named_modules() if id(module) in changed or name in folded]
        if not places:  # the code is the same
            level = "outputs"
        return verification.check(self.model, fused, self.example, places, level, self.say)

    def _as_it_was(self, report: FusionReport, why: str) -> tuple[nn.Module, FusionReport]:
        """A copy without any operators, and a report that says so."""
        plain, left = shared_copy(self.model), FusionReport(left=report.left, notes=report.notes)
        if self.inference:
            fold(plain, FusionReport())
        for part in report.replaced:
            if part.operator == "folded":
                left.replaced.append(part)
            else:
                left.left.append(Left(part.place, part.pattern, why))
        left.checked = why
        return plain, left


def _slow(fused: nn.Module, found: Plan, parts: Mapping[int, measuring.Part]) -> dict[str, str]:
    """Names of the weights of the parts that the operator is not faster for, and how much time they take."""
    patterns = found.patterns()
    slow = {weight: part for weight, part in parts.items() if weight in patterns and not part.is_faster}
    named = fused.named_parameters(remove_duplicate=False) if slow else ()
    return {name: slow[id(p)].said() for name, p in named if id(p) in slow}


def _position(order: list[str], place: str) -> int:
    """Where the module that a place is in stands in the model."""
    while place and place not in order:
        place = place.rpartition(".")[0]
    return order.index(place)
