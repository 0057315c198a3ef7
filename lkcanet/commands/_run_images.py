"""The images that a run's report scores: what its training held out, of the scenes that its options name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.runs import CONFIG
from . import _several as several
from . import _shared as shared
from ._config import kept
from ._msi import MsiOptions
from ._options import gathered, scattered
from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.common.ssim import SSIM
    from lkcanet.data import Scene, SpectralResponse
    from lkcanet.training.run_files import Run
    from lkcanet.training.run_page import Image

HELD = {
    "test": "Of the test region, which the training never read.",
    "tests": "Of the test images, which the training never read.",
    "validation": "Of what chose the best checkpoint (validation): no test region was held out, so that these scores "
    "are somewhat better than those of new scenes.",
    "other": "Of scenes that the training did not have, as far as their names and shapes tell.",
}


@dataclass
class Chosen:
    """Images, read as they are asked for, and what is to be said of them once they were.

    Attributes:
        images: to be walked once.
        ssim: of which windows MSSIM is.
        notes: what else to say, once the images were walked.
    """

    images: "Iterator[Image]" = field(default_factory=lambda: iter(()))
    ssim: "SSIM" = "uniform"
    notes: list[str] = field(default_factory=list)


def images_of(run: "Run", scenes: Sequence[Path], reading: Reading) -> Chosen:
    """What there is to score a run on.

    Args:
        run: the run.
        scenes: of the command line; by default those of the run's options, else that of its checkpoint.
        reading: of the command line; what it leaves out is as in the run's options.
    """
    from lkcanet.data import is_prepared

    options = kept(run.folder / CONFIG) if run.config is not None else {}
    paths = list(scenes) or _known(run, options)
    chosen = Chosen()
    if missing := [path for path in paths if not path.exists() and not scenes]:
        chosen.notes.append(f"{', '.join(map(str, missing))} not found from here: give the scenes as arguments")
        paths = [path for path in paths if path not in missing]
    if not paths:
        chosen.notes.append("there are no scores and pictures: no scene is known")
        return chosen
    read = _as_then(reading, options)
    if folders := [path for path in paths if is_prepared(path)]:
        several.one_of(paths, f"{folders[0]}, which `lkca prepare` made,")
        _prepared(run, folders[0], chosen, _msi(run, options, read))
        return chosen
    msi = _msi(run, options, read)
    chosen.images = _held_out(run, several.scenes_of(paths), read, chosen, msi)
    return chosen


def _known(run: "Run", options: dict[str, Any]) -> list[Path]:
    extra = run.record.extra
    told = options.get("scene") or [each.get("source") for each in extra.get("scenes") or [extra.get("scene", {})]]
    return [Path(str(each)) for each in (told if isinstance(told, list) else [told]) if each]


def _as_then(reading: Reading, options: dict[str, Any]) -> Reading:
    """The options of reading of the run, but for those that were given now."""
    now, default = scattered(reading), scattered(Reading())
    then = {name: options[name] for name in now if name in options}
    return gathered(Reading, {**then, **{name: value for name, value in now.items() if value != default[name]}})


def _msi(run: "Run", options: dict[str, Any], reading: Reading) -> "Scene | SpectralResponse | None":
    if not run.model.msi_bands:
        return None
    own: dict[str, Any] = {
        name: options[name] for name in ("response", "msi_key", "msi_axes", "msi_peak") if name in options
    }
    if "msi" in options:
        own["msi"] = Path(options["msi"])
    return gathered(MsiOptions, own).read(run.record, nodata=reading.nodata)


def _prepared(run: "Run", folder: Path, chosen: Chosen, msi: Any) -> None:
    from lkcanet.data import PreparedSet, load_prepared
    from lkcanet.training.run_page import Image

    data = load_prepared(folder)
    record = run.record
    if isinstance(data, PreparedSet):
        doubts = record.doubts_of_set(data.test_names, data.peak)
    else:
        doubts = record.doubts(data.scene, data.split)
    chosen.notes += [f"warning: {doubt}" for doubt in doubts]
    chosen.ssim = data.ssim

    def each() -> "Iterator[Image]":
        for number, name in enumerate(data.test_names):
            shared.note(f"note: test image {number + 1} of {len(data.test_names)}")
            yield Image(name, data.test_scene(number), HELD["tests"], msi)

    chosen.images = each()


def _held_out(run: "Run", paths: Sequence[Path], reading: Reading, chosen: Chosen, msi: Any) -> "Iterator[Image]":
    from lkcanet.data import Rect, Scene, parse_rect, whole_pixels
    from lkcanet.training.run_page import Image

    for path in paths:
        scene = reading.scene_for(path, run.model, run.record)
        region, kind = _region(run, scene)
        name = scene.name or path.name
        if kind is None:
            chosen.notes.append(f"{name} was trained on as a whole: it is not scored")
            continue
        rect = Rect(0, scene.size[0], 0, scene.size[1]) if region is None else parse_rect(region, scene.pixels.shape)
        part = whole_pixels(rect, run.model.scale, name)
        own = msi.cropped(part) if isinstance(msi, Scene) and msi.size == scene.size else msi
        whole = (part.height, part.width) == scene.size
        scene = run.record.with_wavelengths(scene)
        called = name if whole else f"{name}, {kind} {part}"
        yield Image(called, scene if whole else scene.cropped(part), HELD[kind], own)


def _region(run: "Run", scene: "Scene") -> tuple[str | None, str | None]:
    """What of a scene the run held out, None for all of it; and for what. (None, None): nothing."""
    record = run.record
    told = record.regions_among(scene)
    if told is None:
        if not record.is_of(scene, nameless=True):
            return None, "other"
        told = {"test": record.test, "validation": record.validation, "train": ""}
    if told["test"] is not None:
        return told["test"], "test"
    if told["train"] is None:
        return None, "validation"  # as a whole
    return (told["validation"], "validation") if told["validation"] is not None else (None, None)
