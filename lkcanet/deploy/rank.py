"""The rank of a network's upsampler, and what part of the network it is (LKCA-Net, Fig. 1 and 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lkops.lowrank import cumulative_share, rank_at, spectrum

from ..common.optional import require
from ..common.plots import COLOURS, plain
from ..models import Network
from ..models.capabilities import Upsampler, upsampler_of, upsamplers_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Parts", "RankReport", "plot_ranks", "rank_report", "rank_reports"]

SHARES = (0.5, 0.9, 0.95, 0.99)
STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Parts:
    """A count, such as of parameters, and how it falls on the two parts of a network."""

    backbone: int
    upsampler: int

    @property
    def total(self) -> int:
        return self.backbone + self.upsampler

    @property
    def upsampler_share(self) -> float:
        """0 to 1."""
        return self.upsampler / self.total

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "total": self.total,
            "backbone": self.backbone,
            "upsampler": self.upsampler,
            "upsampler_share": self.upsampler_share,
        }


@dataclass(frozen=True)
class RankReport:
    """What `rank_report` finds.

    Attributes:
        matrix: rows and columns of the upsampler's weight as a matrix, (B r^2, C k^2 / g).
        groups: g.
        weight: "weight"; or "direction" where all gains of its weight normalisation are 0, as they are before training:
            then the matrix is that of the direction, each row of norm 1.
        singular_values: largest first, min(matrix) of them.
        cumulative: their cumulative share, each as many; of the squares with `energy`.
        share, rank: the smallest rank that reaches the share.
        ranks: the same for a few other shares.
        energy: whether shares are of the squares.
        parameters: trainable values.
        macs: multiply-adds of one low-resolution image of `size`, as the paper counts them.
        size: rows and columns of that image.
    """

    matrix: tuple[int, int]
    groups: int
    weight: str
    singular_values: tuple[float, ...]
    cumulative: tuple[float, ...]
    share: float
    rank: int
    ranks: Mapping[float, int]
    energy: bool
    parameters: Parts
    macs: Parts
    size: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the largest rank that the matrix could have."""
        return {
            "matrix": self.matrix,
            "groups": self.groups,
            "weight": self.weight,
            "share": self.share,
            "energy": self.energy,
            "rank": self.rank,
            "largest_rank": min(self.matrix),
            "ranks": {f"{share:g}": rank for share, rank in self.ranks.items()},
            "parameters": self.parameters.as_dict(),
            "macs": {**self.macs.as_dict(), "size": self.size},
            "singular_values": self.singular_values,
            "cumulative_share": self.cumulative,
        }


def rank_report(
    model: Network, share: float = 0.9, *, energy: bool = False, size: tuple[int, int] = (16, 16)
) -> RankReport:
    """Singular values of a network's upsampler, its rank at a share, and its part of parameters and multiply-adds.

    Args:
        model: with a conv that enlarges (`lkcanet.models.Upsampler`), folded or not. An untrained LKCA-Net's upsampler
            is zero: the report is then of the direction of its weight normalisation, which is random and of full rank;
            without one the rank is 0.
        share, energy: see `lkops.lowrank.rank_at`.
        size: rows and columns of the low-resolution image that multiply-adds are counted for.

    Raises:
        ValueError: `share` is not above 0 and up to 1; the weight holds NaN or infinite values;
            `lkcanet.models.Lacking`: the network has no such conv, or several in a row.

    Source: LKCA-Net (arXiv 2501.18664), section III-C, Fig. 1 and 4.
    """
    return _report(model, upsampler_of(model), share, energy, size)


def rank_reports(
    model: Network, share: float = 0.9, *, energy: bool = False, size: tuple[int, int] = (16, 16)
) -> dict[str, RankReport]:
    """`rank_report` of every conv that enlarges, by the step's name; of a network with one its name is "". Parameters
    and multiply-adds are those of the step, the backbone is all else.

    Args, raises:
        As `rank_report`; `lkcanet.models.Lacking` only where there is no such conv.
    """
    return {name: _report(model, each, share, energy, size) for name, each in upsamplers_of(model).items()}


def _report(model: Network, upsampler: Upsampler, share: float, energy: bool, size: tuple[int, int]) -> RankReport:
    weight, products = upsampler.weight, size[0] * size[1] * upsampler.products
    values = spectrum(weight)
    return RankReport(
        matrix=(weight.shape[0], weight[0].numel()),
        groups=upsampler.groups,
        weight=upsampler.kind,
        singular_values=tuple(values.tolist()),
        cumulative=tuple(cumulative_share(values, energy=energy).tolist()),
        share=share,
        rank=rank_at(values, share, energy=energy),
        ranks={other: rank_at(values, other, energy=energy) for other in SHARES},
        energy=energy,
        parameters=Parts(model.parameter_count() - upsampler.parameters, upsampler.parameters),
        macs=Parts(model.macs(*size) - products, products),
        size=size,
    )


def plot_ranks(reports: Mapping[str, RankReport]) -> "Figure":
    """Cumulative share of singular values against their index, a line each, with the rank at the share marked; and
    bars of what part of parameters and multiply-adds the upsampler has.

    Args:
        reports: name to report, all of one share and kind of share.

    Raises:
        ValueError: no report, or reports of different shares.

    Source: LKCA-Net, Fig. 4 and 1.
    """
    if not reports:
        raise ValueError("reports is empty, expected at least one")
    kinds = {(report.share, report.energy) for report in reports.values()}
    if len(kinds) > 1:
        raise ValueError(f"reports must be of one share and kind of share, got (share, energy) {sorted(kinds)}")
    share, energy = next(iter(kinds))
    height = 4.4 + 0.35 * max(0, len(reports) - 3)
    figure: Figure = require("matplotlib.figure", extra="io").Figure(
        figsize=(11.5, height), dpi=125, layout="constrained"
    )
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_curves(left, reports, share, energy)
    _draw_parts(right, reports)
    return figure


def _draw_curves(axis: "Axes", reports: Mapping[str, RankReport], share: float, energy: bool) -> None:
    for index, (name, report) in enumerate(reports.items()):
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        of = f"rank {report.rank} of {len(report.cumulative)}" + (", untrained" if report.weight != "weight" else "")
        places = range(1, len(report.cumulative) + 1)
        axis.plot(places, report.cumulative, style, color=colour, linewidth=1.8, label=f"{_short(name)} ({of})")
        if report.rank:
            axis.plot(report.rank, report.cumulative[report.rank - 1], "o", color=colour, markersize=6)
    axis.axhline(share, color="#444444", linewidth=1, linestyle=(0, (4, 2)))
    axis.annotate(f"{100 * share:g} %", (1, share), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                  textcoords="offset points", ha="right", fontsize=9)  # fmt: skip
    axis.set_xlabel("Index of the singular value, largest first")
    axis.set_ylabel(f"Cumulative share of {'squared ' if energy else ''}singular values")
    axis.set_title("Upsampler's weight, (outputs, inputs x kernel) matrix", fontsize=11)
    axis.set_xlim(left=0)
    axis.set_ylim(0, 1.02)
    axis.legend(loc="lower right", fontsize=9)
    plain(axis)


def _draw_parts(axis: "Axes", reports: Mapping[str, RankReport]) -> None:
    labels: list[str] = []
    for name, report in reports.items():
        for what, parts, unit in (("parameters", report.parameters, 1e6), ("multiply-adds", report.macs, 1e9)):
            place, part = len(labels), 100 * parts.upsampler_share
            axis.barh(place, 100 - part, color="#bbbbbb", label=None if labels else "backbone")
            axis.barh(place, part, left=100 - part, color="#0072b2", label=None if labels else "upsampler")
            axis.annotate(f"{part:.1f} %", (99, place), ha="right", va="center", fontsize=9,
                          color="white" if part > 15 else "black")  # fmt: skip
            labels.append(f"{_short(name)}\n{what}, {parts.total / unit:.3f} {'M' if unit == 1e6 else 'G'}")
    axis.set_yticks(range(len(labels)), labels, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("Part of the network (%)")
    axis.set_title("Backbone and upsampler", fontsize=11)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _short(name: str, longest: int = 28) -> str:
    """The end of a long name, which tells paths apart."""
    return name if len(name) <= longest else "..." + name[3 - longest :]
