"""How all figures of curves look."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "literal", "plain"]

# Okabe and Ito's palette, told apart by colour-blind readers too
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")


def plain(axis: "Axes") -> None:
    """A grid behind what is drawn, and no frame where there are no numbers."""
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    """A text of the user's, such as a file's name, for matplotlib: its dollars are no ends of a formula."""
    return text.replace("$", r"\$")
