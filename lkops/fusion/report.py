"""What `fuse` did: what was replaced where, what was left and why, and what it can be worth."""

from dataclasses import dataclass, field


class FusionError(RuntimeError):
    """The fused model gave other results than the model on the example input, and is not returned."""


@dataclass(frozen=True)
class Replaced:
    """A part that runs as one operator now."""

    place: str
    pattern: str
    operator: str


@dataclass(frozen=True)
class Left:
    """A part that looks like one that could be fused, and why it was not."""

    place: str
    what: str
    why: str


@dataclass
class FusionReport:
    """Result of `lkops.fuse`; print it for a table.

    Attributes:
        replaced, left: parts, in the order of the model.
        checked: with an example input, which check was made, and what it compared or why it could not; else "".
        share: with an example input, the share of one inference's time that the replaced parts took before, measured
            on that input with PyTorch's own operators; None without one.
        notes: what holds for the model as a whole.
    """

    replaced: list[Replaced] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    checked: str = ""
    share: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def most(self) -> float | None:
        """How many times as fast the model would be if the replaced parts took no time at all (Amdahl's law)."""
        return None if self.share is None else 1 / max(1 - self.share, 1e-3)

    def __str__(self) -> str:
        lines = ["nothing was replaced: no part matches"] if not self.replaced else ["replaced:"]
        lines += _table([(r.place or "(model)", r.pattern, "-> " + r.operator) for r in self.replaced])
        if self.left:
            lines += ["left:", *_table([(p.place or "(model)", p.what, p.why) for p in self.left])]
        if self.share is not None and self.replaced:
            lines.append(
                f"the replaced parts took {self.share:.0%} of the time (an inference with PyTorch's operators on the "
                f"example input): fusing can give {self.most:.2f}x at the most"
            )
        if self.checked:
            lines.append(self.checked)
        return "\n".join([*lines, *self.notes])


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows]
