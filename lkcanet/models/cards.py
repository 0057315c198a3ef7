"""The card of a trained network: what it is, what it was trained on, what it scores, and what it may be used for."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["Card", "card_from"]

# what a card says of these, at least
DATA = ("name", "terms", "citation")
TRAINING = ("commit", "command", "machine", "hours")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What there is to say about a trained network.

    Attributes:
        name: of the network in `lkcanet.load`.
        network: kind and config, as in its checkpoint.
        scale: r.
        bands: B.
        wavelengths: centres of the bands in nm; None where not known.
        peak: what scenes are divided by, in the units of their files; None where each was divided by its own maximum.
        parameters: trainable values, weight normalisation folded.
        macs_16x16: multiply-adds of a low-resolution image of 16 x 16 pixels.
        dtype: in which weights are stored ("float32" or "bfloat16"; vectors are float32); they are loaded to float32.
        sha256: of the file of weights.
        data: what it was trained on: name, terms, citation, and what else there is to say.
        protocol: how scenes were split, degraded and scored.
        scores: "mean" and "images" (name of a test image to its scores), as `lkcanet.evaluation.evaluate` has them.
        bicubic, ensemble: the same of bicubic, and of the mean over eight orientations; None where not measured.
        training: commit, command, machine and hours, and what else there is to say.
        test_looks: how often the test images were scored before this network was chosen.
        notes: sentences.
    """

    name: str
    network: dict[str, Any]
    scale: int
    bands: int
    wavelengths: list[float] | None
    peak: float | None
    parameters: int
    macs_16x16: int
    dtype: str
    sha256: str
    data: dict[str, Any]
    protocol: str
    scores: dict[str, Any]
    training: dict[str, Any]
    test_looks: int
    bicubic: dict[str, Any] | None = None
    ensemble: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people, in lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        shown = {
            "network": self.network.get("kind", "lkcanet"),
            "scale": f"x{self.scale}",
            "bands": f"{self.bands}{'' if self.wavelengths is None else ', ' + spans(self.wavelengths)}",
            "peak": "each scene's maximum" if self.peak is None else f"{self.peak:g}",
            "parameters": f"{self.parameters:,}, stored as {self.dtype}",
            "macs_16x16": f"{self.macs_16x16:,}",
            "protocol": self.protocol,
            "test_looks": f"{self.test_looks} (scorings of the test images before this network was chosen)",
        }
        yield self.name
        yield from (f"  {name:12} {value}" for name, value in shown.items())
        for name in ("data", "training"):
            yield f"{name}:"
            yield from (f"  {key:12} {value}" for key, value in getattr(self, name).items())
        for name in ("scores", "ensemble", "bicubic"):
            told = getattr(self, name)
            if told is not None:
                yield f"{name}:"
                rows = {"mean": told["mean"], **told.get("images", {})}
                width = max(map(len, rows))
                yield from (f"  {row:{width}} {_scores(values)}" for row, values in rows.items())
        if self.notes:
            yield "notes:"
            yield from (f"  - {note}" for note in self.notes)


def spans(wavelengths: list[float]) -> str:
    """ "400 to 700 nm"."""
    return f"{min(wavelengths):g} to {max(wavelengths):g} nm"


def card_from(values: Any, where: str) -> Card:
    """A card from JSON.

    Raises:
        ValueError: an entry is missing, unknown, or of another kind; names it and `where`.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: a card must be an object, got {type(values).__name__}")
    known = {field.name for field in fields(Card)}
    needed = known - {"bicubic", "ensemble", "notes"}
    if missing := sorted(needed - values.keys()):
        raise ValueError(f"{where}: the card lacks {', '.join(missing)}")
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"{where}: the card has unknown entries {', '.join(unknown)}")
    kinds: dict[str, Any] = {"name": str, "network": dict, "scale": int, "bands": int, "parameters": int}
    kinds |= {"macs_16x16": int, "dtype": str, "sha256": str, "protocol": str, "test_looks": int}
    kinds |= {"data": dict, "scores": dict, "training": dict}
    for name, kind in kinds.items():
        if not isinstance(values[name], kind) or isinstance(values[name], bool) or values[name] in ("", {}):
            raise ValueError(f"{where}: {name} of the card must be {kind.__name__}, got {values[name]!r:.80}")
    for name, entries in (("data", DATA), ("training", TRAINING)):
        if missing := [entry for entry in entries if values[name].get(entry) in (None, "")]:
            raise ValueError(f"{where}: {name} of the card lacks {', '.join(missing)}")
    for name in ("scores", "bicubic", "ensemble"):
        _check_scores(values.get(name), f"{where}: {name} of the card")
    if values["test_looks"] < 1:
        raise ValueError(f"{where}: test_looks of the card must be 1 or more, got {values['test_looks']}")
    nanometres = values["wavelengths"]
    if nanometres is not None and not (_are_numbers(nanometres) and len(nanometres) == values["bands"]):
        raise ValueError(f"{where}: wavelengths of the card must be {values['bands']} numbers, got {nanometres!r:.80}")
    if values["peak"] is not None and not (_are_numbers([values["peak"]]) and values["peak"] > 0):
        raise ValueError(f"{where}: peak of the card must be a positive number, got {values['peak']!r:.80}")
    notes = values.get("notes", ())
    if not isinstance(notes, (list, tuple)) or not all(isinstance(note, str) for note in notes):
        raise ValueError(f"{where}: notes of the card must be a list of sentences, got {notes!r:.80}")
    return Card(**{**values, "notes": tuple(notes)})


def _check_scores(told: Any, where: str) -> None:
    if told is None:
        return
    rows = [told.get("mean"), *told.get("images", {}).values()] if isinstance(told, dict) else [None]
    if not all(isinstance(row, dict) and row and _are_numbers(list(row.values())) for row in rows):
        raise ValueError(f'{where} must be {{"mean": scores, "images": {{name: scores}}}}, got {json.dumps(told)[:80]}')


def _are_numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )


def _scores(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())
