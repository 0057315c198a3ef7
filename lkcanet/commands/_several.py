"""Several scenes for one command: which they are, where their results go, and what happens where one fails.

A scene that fails is reported at once and the others go on: a night's work is not lost to one damaged file. The last
line names what failed, and the exit code is 1. Of a single scene the error is the command's own.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from ..common.errors import error_text
from . import _shared as shared

Result = TypeVar("Result")

Suffix = Annotated[
    str | None, typer.Option(help="Format of the results in a folder, such as .tif or .hdr; default: .npy.")
]
Cog = Annotated[bool, typer.Option("--cog", help="Write GeoTIFFs (.tif) cloud-optimised: in tiles, with overviews.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist in the folder.")]


def _name(scene: Path) -> str:
    return scene.resolve().name if scene.is_dir() else scene.stem


class Job(NamedTuple):
    """A scene and the file that its result goes to."""

    scene: Path
    out: Path


def scenes_of(paths: Sequence[Path]) -> list[Path]:
    """The scenes that a command's arguments name. A single file is not looked at: its reader says what is wrong."""
    from lkcanet.data import scene_paths

    if len(paths) == 1 and not paths[0].is_dir() and paths[0].suffix.lower() != ".txt":
        return list(paths)
    return scene_paths(paths)


def one_of(scenes: Sequence[Path], option: str) -> Path:
    """The only scene, for an option that goes with one."""
    if len(scenes) > 1:
        raise ValueError(f"{option} goes with one scene, got {len(scenes)}")
    return scenes[0]


def goes_into_folder(paths: Sequence[Path], scenes: Sequence[Path], out: Path) -> bool:
    """Whether OUT is a folder for results, by what stands before it: for one scene it is the file, unless there is a
    folder of that name, or the scene was found in a folder or a list and OUT has no scene's suffix."""
    if out.is_dir() or len(scenes) > 1:
        return True
    return list(paths) != list(scenes) and out.suffix.lower() not in shared.SCENES


def results_in(folder: Path, scenes: Sequence[Path], suffix: str | None) -> list[Job]:
    """Each scene with the file in the folder that has its name.

    Raises:
        ValueError: two scenes of one name, a result that would replace a scene, or an unknown suffix.
        NotADirectoryError: the folder is a file.
    """
    suffix = ".npy" if suffix is None else suffix
    if suffix.lower() not in shared.SCENES:
        raise ValueError(f"--suffix must be one of {', '.join(shared.SCENES)}, got {suffix!r}")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: must be a folder, for the results of {len(scenes)} scenes; it is a file")
    jobs = [Job(path, folder / f"{_name(path)}{suffix}") for path in scenes]
    taken: dict[Path, Path] = {}
    for path, out in jobs:
        if out in taken:
            raise ValueError(f"{taken[out]} and {path} would both become {out}: take them one by one")
        shared.check_spared(scenes, out)
        taken[out] = path
    return jobs


def result_of(given: Path, scene: Path, count: int) -> Path:
    """The result of a scene: the path that was given, of one scene; of more the file of its name in that folder."""
    if count == 1:
        return given
    if not given.is_dir():
        raise ValueError(f"{given}: the results of {count} scenes must lie in a folder, under their names")
    name = _name(scene)
    found = [file for file in sorted(given.iterdir()) if file.stem == name and file.suffix.lower() in shared.SCENES]
    if len(found) != 1:
        what = "holds no result" if not found else f"holds {' and '.join(file.name for file in found)}"
        raise ValueError(f"{given}: {what} of the scene {name}, expected one file of that name")
    return found[0]


def check_cog(outs: Sequence[Path], *, cog: bool) -> None:
    """Raise a ValueError where --cog was given for results that are no GeoTIFFs."""
    others = [out for out in outs if cog and out.suffix.lower() not in (".tif", ".tiff")]
    if others:
        raise ValueError(f"--cog goes with results that end in .tif, got {others[0]}")


def check_new(outs: Sequence[Path], *, overwrite: bool) -> None:
    """Raise a FileExistsError for results that are there, all named, before the first is made."""
    there = [] if overwrite else [str(out) for out in outs if out.exists()]
    if there:
        listing = ", ".join(there if len(there) <= 4 else [*there[:3], f"... ({len(there)} in all)"])
        raise FileExistsError(f"{listing} exist{'s' * (len(there) == 1)}: choose another folder, or --overwrite")


def each(
    scenes: Sequence[Path], work: Callable[[Path], Result], *, alone: bool
) -> tuple[list[Result], list[dict[str, Any]]]:
    """What `work` gives for each scene, and those that failed: `scene` and `error` in words.

    Args:
        scenes: in their order.
        work: may raise what users can cause.
        alone: there is one scene, and its error is that of the command.
    """
    failed: list[dict[str, Any]] = []

    def attempt(scene: Path) -> Iterator[Result]:
        try:
            yield work(scene)
        except shared.KNOWN_ERRORS as error:
            if alone:
                raise
            failed.append(told(scene, error))

    return [result for scene in scenes for result in attempt(scene)], failed


def told(scene: Path, error: Exception) -> dict[str, Any]:
    """Report a scene that failed, on stderr; what JSON says of it."""
    text = error_text(error)
    shared.note(f"error: {text if str(scene) in text else f'{scene}: {text}'}")
    return {"scene": scene, "error": text}


def end(failed: Sequence[dict[str, Any]], count: int, what: str = "scenes") -> None:
    """Name those that failed and exit with 1, where there are such."""
    if failed:
        shared.note(f"error: {len(failed)} of {count} {what} failed: {', '.join(str(one['scene']) for one in failed)}")
        raise typer.Exit(1)
