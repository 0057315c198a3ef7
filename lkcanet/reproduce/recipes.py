"""Recipes: what a paper's tables and figures are made of, as data. One TOML file a paper, in the folder `papers`.

    title, source                   of the paper
    [training]                      options of every training (`lkcanet.training.TrainOptions`)
    [recipe]                        place: where in the paper that stands; ours: what it leaves open, and we chose; blur
    [networks.NAME]                 preset, set (its arguments), training, objective, teacher, distillation, ours
    [protocols.NAME]                a split that `lkca prepare` does not have: `lkcanet.data.Protocol`
    [entries.NAME]                  title; why (it can't be run), or kind, data, scales, rows, bands, printed,
                                    macs_size, ours

A network without a preset is bicubic. A row is the name of a network, or a table with name, network, data, and what it
changes of the network: set, training, objective, distillation; or why, where it can't be run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.protocols import PROTOCOLS, Protocol

__all__ = ["KINDS", "Entry", "NetworkRecipe", "Paper", "Row"]

KINDS = ("scores", "rank", "parts", "weights")


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """A network of a paper and how it is trained.

    Attributes:
        preset: its name in `lkcanet.models.PRESETS`, which may lack it; None is bicubic, which is not trained.
        set: arguments of the network.
        training: options that differ from the paper's `training`.
        objective: arguments of its own objective, see `lkcanet.objectives.objective_for`; name = "h": the H loss in its
            place.
        teacher: the network that it learns from, trained before it.
        distillation: how, see `lkcanet.training.Distillation`.
        ours: what its papers leave open, and was chosen here.
    """

    preset: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    distillation: dict[str, Any] = field(default_factory=dict)
    ours: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a network, what of it is another here, and on which data; or why it can't be run."""

    name: str
    network: str | None = None
    data: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    distillation: dict[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A table or a figure.

    Attributes:
        name: as "table-5".
        title: what it shows.
        kind: "scores" trains and scores its rows; "rank" trains them and takes the singular values of their upsamplers;
            "parts" counts parameters of fresh networks; "weights" scores the networks of the package.
        data: protocol of its rows, where they name none.
        scales: r, one after the other.
        rows: in their order.
        bands: shown as red, green and blue, counted from 1.
        printed: the table whose printed scores stand beside ours; its own by default.
        macs_size: low-resolution pixels that multiply-adds are counted for.
        why: it can't be run; empty where it can.
        ours: what was chosen here.
    """

    name: str
    title: str
    kind: str = "scores"
    data: str | None = None
    scales: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    bands: tuple[int, int, int] | None = None
    printed: str = ""
    macs_size: tuple[int, int] = (16, 16)
    why: str = ""
    ours: str = ""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A recipe file; `ours` lists what was chosen where the paper is silent, `place` says where the rest stands.
    `blur`: LR images are made by a Gaussian of so many times r pixels (`TrainOptions.psf_sigma`); None is MATLAB's
    bicubic."""

    name: str
    file: Path
    title: str
    source: str
    training: dict[str, Any]
    place: str
    ours: tuple[str, ...]
    blur: float | None
    networks: Mapping[str, NetworkRecipe]
    entries: Mapping[str, Entry]
    protocols: Mapping[str, Protocol]

    def entry(self, what: str) -> Entry:
        """The table or figure of this name. Raises a ValueError that lists those that there are."""
        if what not in self.entries:
            raise ValueError(f"WHAT must be one of {', '.join(self.entries)} of {self.name}; got {what!r}")
        return self.entries[what]

    def protocol(self, name: str) -> Protocol | None:
        """The protocol of one image by this name; None where there is none."""
        return self.protocols.get(name, PROTOCOLS.get(name))
