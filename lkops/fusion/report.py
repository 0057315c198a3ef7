"""What `fuse` did: what was replaced where, what was left and why, and what it can be worth."""

from dataclasses import dataclass, field


class FusionError(RuntimeError):
    """The fused model gave other results than the model on the example input, and is not returned."""


@dataclass(frozen=True)
class Replaced:
    """A part that runs as one operator now.

    Attributes:
        before, after: with an example input, milliseconds that it takes in an inference on that, by PyTorch and by the
            operator; else None.
    """

    place: str
    pattern: str
    operator: str
    before: float | None = None
    after: float | None = None


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
        before, after: with an example input, milliseconds of an inference of the model and of the fused one on it,
            medians of calls in turns; None without one.
        share: with an example input, the share of an inference's time that the parts take by PyTorch's operators; None
            without one.
        notes: what holds for the model as a whole.
    """

    replaced: list[Replaced] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    checked: str = ""
    before: float | None = None
    after: float | None = None
    share: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def most(self) -> float | None:
        """How many times as fast the model would be if the replaced parts took no time at all (Amdahl's law)."""
        return None if self.share is None else 1 / max(1 - self.share, 1e-3)

    def __str__(self) -> str:
        lines = ["nothing was replaced: no part matches"] if not self.replaced else ["replaced:"]
        lines += _table([(r.place or "(model)", r.pattern, f"-> {r.operator}{_times(r)}") for r in self.replaced])
        if self.left:
            lines += ["left:", *_table([(p.place or "(model)", p.what, p.why) for p in self.left])]
        if self.share is not None and self.before is not None and self.after is not None and self.replaced:
            lines.append(
                f"an inference on the example input took {self.before:.2f} ms, and takes {self.after:.2f} ms: "
                f"{self.before / self.after:.2f}x; the replaced parts had {self.share:.0%} of it, so that "
                f"{self.most:.2f}x is the most that they can give"
            )
        if self.checked:
            lines.append(self.checked)
        return "\n".join([*lines, *self.notes])


def _times(part: Replaced) -> str:
    return "" if part.before is None or part.after is None else f": {part.before:.3f} -> {part.after:.3f} ms"


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows]
