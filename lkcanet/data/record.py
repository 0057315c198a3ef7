"""What a checkpoint tells of its training: the scene, its peak and regions, and how the images were made."""

from collections.abc import Mapping, Sequence
from typing import Any

from lkcanet.common.options import FLOOR
from lkcanet.data.bands import BandChoice
from lkcanet.data.responses import SpectralResponse
from lkcanet.data.scenes import Scene, check_positive
from lkcanet.data.splits import Rect, Split, overlap, parse_rect

__all__ = ["TrainingRecord"]


class TrainingRecord:
    """The metadata that `lkcanet.training` leaves in a checkpoint, read and checked.

        model, extra = load_model_and_extra("run/best.safetensors")
        record = TrainingRecord(extra, "run/best.safetensors")
        scene = read_scene("scene.mat", peak=record.peak)

    A checkpoint need not have any: what it does not tell is None, or the default of `TrainOptions`.

    Args:
        extra: as `lkcanet.models.load_model_and_extra` gives it.
        where: how errors and doubts call the checkpoint.

    Attributes:
        extra: the metadata, without entries `scene` and `split` that are null.

    Raises:
        ValueError: the peak is not positive and finite, `scene` or `split` no object, or the test region no text. What
            else is damaged raises where it is asked for.
    """

    def __init__(self, extra: Mapping[str, Any], where: str = "the checkpoint") -> None:
        self.extra, self.where = dict(extra), where
        if self.extra.get("peak") is not None:
            check_positive(self.extra["peak"], f"{where}: the peak in its metadata")
        for name in ("scene", "split"):
            if self.extra.get(name) is None:
                self.extra.pop(name, None)
            elif not isinstance(self.extra[name], dict):
                raise ValueError(f"{where}: {name} in its metadata must be an object, got {self.extra[name]!r:.80}")
        if self.test is not None and not isinstance(self.test, str):
            raise ValueError(f"{where}: the test region in its metadata must be a text, got {self.test!r:.80}")

    @property
    def peak(self) -> float | None:
        """What the scene was divided by, in the units of its file."""
        return self.extra.get("peak")

    @property
    def msi_peak(self) -> float | None:
        """The same of the multispectral scene."""
        return (self.extra.get("msi") or {}).get("peak")

    @property
    def wavelengths(self) -> list[float] | None:
        """Of the scene's bands, in nm."""
        return self.extra.get("scene", {}).get("wavelengths")

    @property
    def band_choice(self) -> BandChoice | None:
        """The bands of its file that the scene had; None where it had all, or the checkpoint does not tell."""
        told = self.extra.get("scene", {}).get("bands")
        if told is None:
            return None
        try:
            return BandChoice(int(told["of"]), tuple(int(band) for band in told["taken"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.where}: bands in its metadata are damaged: {error}") from error

    @property
    def file_bands(self) -> int | None:
        """How many bands the scene's file had; None where the checkpoint does not tell."""
        if (choice := self.band_choice) is not None:
            return choice.of
        each = [self.extra.get("scene", {}), *(self.extra.get("scenes") or ())]
        shape = next((told["shape"] for told in each if isinstance(told, dict) and told.get("shape")), None)
        return None if shape is None else int(shape[0])

    @property
    def raw(self) -> bool:
        """Whether the scene was in the counts of its file, which has a scale or an offset for them."""
        return bool(self.extra.get("scene", {}).get("raw", False))

    @property
    def test(self) -> str | None:
        """The region that the training held out: "rows,columns"."""
        return self._split.get("test")

    @property
    def validation(self) -> str | None:
        """The validation block; None where there was none, or patches."""
        return self._split.get("validation")

    @property
    def patch(self) -> int | None:
        """Side of a training patch, in pixels of the scene."""
        return self._split.get("patch")

    @property
    def psf_sigma(self) -> float | None:
        """Width of the point spread function that made the LR images, in pixels of the scene; None is the bicubic."""
        options = self.extra.get("options")
        sigma = options.get("psf_sigma") if isinstance(options, dict) else None
        return None if sigma is None else check_positive(sigma, "psf_sigma in the checkpoint's metadata")

    @property
    def floor(self) -> float:
        """The floor under the spectral angle, see `lkcanet.training.TrainOptions`."""
        return float(self.extra.get("options", {}).get("floor", FLOOR))

    @property
    def response(self) -> SpectralResponse | None:
        """The response by which the MSI was made of the scene; None where it came from a file, or there was none."""
        told = (self.extra.get("msi") or {}).get("response")
        if told is None:
            return None
        try:
            return SpectralResponse(**{key: _tuples(value) for key, value in told.items()})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"the checkpoint's response is damaged: {error}") from error

    def is_of(self, scene: Scene, *, nameless: bool = False) -> bool:
        """Whether the training had this scene, as far as shape and name tell.

        Args:
            scene: the whole of it.
            nameless: what to answer for a scene of the same shape where the checkpoint tells no name.
        """
        told = self.extra.get("scene", {})
        if told.get("shape") != list(scene.pixels.shape):
            return False
        return told["name"] == scene.name if "name" in told else nameless

    def regions_among(self, scene: Scene) -> dict[str, str | None] | None:
        """Of a training on several scenes: `test`, `train` and `validation` of the one that has this scene's name and
        shape, each a rectangle or None; `train` is None of a scene that validated as a whole. None: there is no such,
        the training had one scene, or several are called so and their source does not tell which this is."""
        like = [
            told
            for told in self.extra.get("scenes") or ()
            if told.get("name") == scene.name and told.get("shape") == list(scene.pixels.shape)
        ]
        if len(like) > 1:
            like = [told for told in like if told.get("source") == scene.source]
        return {part: like[0].get(part) for part in ("test", "train", "validation")} if len(like) == 1 else None

    def train_region(self, shape: Sequence[int]) -> Rect | None:
        """The smallest rectangle around all training patches, in a scene of (..., H, W).

        None where it overlaps the test region, with patches on several sides of that: the training had no region of its
        own then; or where one of both is not told.
        """
        inside = self._split.get("train")
        if inside is None or self.test is None:
            return None
        around = parse_rect(str(inside), shape)
        return None if overlap(around, parse_rect(self.test, shape)) else around

    def doubts(self, scene: Scene, split: Split) -> list[str]:
        """Why scores on the split's test region may mislead: the training may have seen it, or knew other units."""
        found = []
        if self.test is None:
            found.append(f"{self.where} does not tell what its training held out: it may have seen the test images")
        elif self.test != str(split.test):
            found.append(
                f"{self.where} was trained with {self.test} held out, not {split.test}: if that was this image, it "
                "may have seen the test images"
            )
        if self.peak is not None and self.peak != scene.peak:
            found.append(f"{self.where} was trained with peak {self.peak:g}, here it is {scene.peak:g}")
        return found

    def doubts_of_set(self, tests: Sequence[str], peak: float | None) -> list[str]:
        """The same of scores on whole scenes.

        Args:
            tests: the names of the scenes that are scored.
            peak: what the set's scenes were divided by; None where each was by its own.
        """
        each = self.extra.get("scenes") or [self.extra.get("scene", {})]
        told = [scene for scene in each if isinstance(scene, dict) and "name" in scene]
        if not told:
            found = [f"{self.where} does not tell what it was trained on: it may have seen the test scenes"]
        else:
            seen = [name for name in tests if name in {scene["name"] for scene in told}]
            found = [f"{self.where} was trained with {', '.join(seen)}, tested on here"] if seen else []
        if self.peak is not None and peak is not None and self.peak != peak:
            found.append(f"{self.where} was trained with peak {self.peak:g}, here it is {peak:g}")
        return found

    @property
    def _split(self) -> dict[str, Any]:
        split: dict[str, Any] = self.extra.get("split", {})
        return split


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
