"""Recipes: what a paper's tables and figures are made of, as data. One TOML file a paper, in the folder `papers`.

    title, source                   of the paper
    [training]                      options of every training (`lkcanet.training.TrainOptions`)
    [recipe]                        place: where in the paper that stands; ours: what it leaves open, and we chose;
                                    blur, scores
    [networks.NAME]                 preset, set (its arguments), training, objective, teacher, distillation, init,
                                    along, ours
    [protocols.NAME]                a split that `lkca prepare` does not have: `lkcanet.data.Protocol`
    [sets.NAME]                     a set of many images: `SetRecipe`
    [entries.NAME]                  title; why (it can't be run), or kind, data, scales, rows, responses, snrs,
                                    noise_on, bands, printed, macs_size, ours

A network without a preset is bicubic. A row is the name of a network, or a table with name, network, data, along, and
what it changes of the network: set, training, objective, distillation, tested; or why, where it can't be run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.protocols import PROTOCOLS, Protocol

__all__ = ["KINDS", "Entry", "NetworkRecipe", "Paper", "Row", "SetRecipe"]

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
        init: the network that it goes on from, trained before it; what trained along with that goes on, too.
        along: networks that train along with it and are scored too, as the objective calls them ("teacher").
        ours: what its papers leave open, and was chosen here.
    """

    preset: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    distillation: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    along: tuple[str, ...] = ()
    ours: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a network, what of it is another here, and on which data; or why it can't be run. `along`: the
    row is of what trains along with the network. `tested`: how its test images are spoilt, arguments `snr` and
    `impulses` of `lkcanet.evaluation.score_tests`; training has them in `training`."""

    name: str
    network: str | None = None
    data: str | None = None
    along: str = ""
    set: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    distillation: dict[str, Any] = field(default_factory=dict)
    tested: dict[str, float] = field(default_factory=dict)
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
        responses: names or files of spectral responses (`lkcanet.data.named_response`) through which networks that
            fuse get their MSI, one after the other; none for networks that do not.
        snrs: dB of noise that rows are scored under too.
        noise_on: what gets it: "both" LR image and MSI, or "lowres".
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
    responses: tuple[str, ...] = ()
    snrs: tuple[float, ...] = ()
    noise_on: str = "both"
    bands: tuple[int, int, int] | None = None
    printed: str = ""
    macs_size: tuple[int, int] = (16, 16)
    why: str = ""
    ours: str = ""


@dataclass(frozen=True, kw_only=True)
class SetRecipe:
    """A set of many images of one kind, which `lkcanet.data.prepare_folder` prepares of a folder; any prepared set may
    stand in its place.

    Attributes:
        bands: B as published; what is given may have others.
        test, validation: shares of the images, drawn: of all, and of those that are left.
        lr_size, stride: of the training patches, see `prepare_folder`.
        file_bands: number of bands of files to those of them that are taken, as `read_scene` reads them: "0:10,12:".
        source: where in the paper this stands, and what is not published.
    """

    name: str
    bands: int
    test: float
    validation: float
    lr_size: int
    stride: int
    file_bands: dict[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A recipe file; `ours` lists what was chosen where the paper is silent, `place` says where the rest stands.
    `blur`: LR images are made by a Gaussian of so many times r pixels (`TrainOptions.psf_sigma`); None is MATLAB's
    bicubic. `scores`: which of `lkcanet.evaluation.metrics` its tables have, CSAKD's two among them."""

    name: str
    file: Path
    title: str
    source: str
    training: dict[str, Any]
    place: str
    ours: tuple[str, ...]
    blur: float | None
    scores: tuple[str, ...]
    networks: Mapping[str, NetworkRecipe]
    entries: Mapping[str, Entry]
    protocols: Mapping[str, Protocol]
    sets: Mapping[str, SetRecipe]

    def entry(self, what: str) -> Entry:
        """The table or figure of this name. Raises a ValueError that lists those that there are."""
        if what not in self.entries:
            raise ValueError(f"WHAT must be one of {', '.join(self.entries)} of {self.name}; got {what!r}")
        return self.entries[what]

    def protocol(self, name: str) -> Protocol | None:
        """The protocol of one image by this name; None where there is none."""
        return self.protocols.get(name, PROTOCOLS.get(name))
