"""Malformed options of every command: out of range, of another type, contradictory, files that are not there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .inputs import PEAK, SCALE, SMALL, scene_command
from .runner import Case, Place

WHOLE = ("-1", "0", "1.5", "two", "", "1e3", "9" * 30)
NUMBER = ("nan", "inf", "-1", "many", "")
POSITIVE = (*NUMBER, "0")
PAIR = ("5", "1,2,3", "a,b", "", "-1,4", "0,0")
REGION = ("5", "0:0,0:4", "3:2,0:4", "0:4,0:99", "a:b,c:d", "", "0:4", "0:4,0:4,0:4", "-40:4,:", "0.5:4,:", "test")
CHOICE = ("other", "", "LKCA_LR ")
SCENE = {"--axes": ("xyz", "hw", "ch", "", "hwcc", "cp"), "--size": PAIR, "--peak": POSITIVE, "--key": ("other",)}
# command -> option -> values that it must refuse; {scene} {net} {out} are filled in
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "info": {**SCENE, "--region": REGION},
    "degrade": {**SCENE, "--region": REGION, "--scale": (*WHOLE, "99", "1000")},
    "distill": {"--alpha": NUMBER[:-1], "--decay": (*POSITIVE, "1.1"), "--frequency": POSITIVE, "--on": CHOICE,
                "--kd-cosine-weight": NUMBER, "--kd-sam-weight": NUMBER, "--kd-gradient-weight": NUMBER,
                "--teacher": ("", "none.safetensors", "/"), "--scale": ("4", "0", "x"), "--peak": POSITIVE,
                "--test": REGION, "--steps": ("0", "x"), "--blocks": ("-1", "x"), "--out": ("", "/dev/null/run")},
    "evaluate": {**SCENE, "--region": REGION[:-1], "--scale": (*WHOLE, "3", "4"), "--threads": WHOLE,
                 "--checkpoint": ("none.safetensors", "/"), "--prediction": ("none.npy", "/dev/null")},
    "super-resolve": {**SCENE, "--region": REGION, "--threads": ("0", "-3", "x"), "--fresh": CHOICE,
                      "--checkpoint": ("none.safetensors", "", "/"), "--tile": (*PAIR, "4", "4:4"),
                      "--overlap": ("1", "-1", "x", ""), "--suffix": (".txt", "npy", ""),
                      "--out-dir": ("", "/dev/null/x")},
    "show": {**SCENE, "--region": REGION[:-1], "--pixel": (*PAIR[:5], "16,20", "99,0"), "--error": CHOICE,
             "--threads": ("0", "1.5"), "--out": ("", "/none/show.png", "show.txt", "show", "/")},
    "view": {**SCENE, "--region": REGION, "--pixel": (*PAIR[:5], "16,20", "99,0", "=1,2", "a=b"),
             "--rgb": ("1,2", "0,1,2", "1,2,7", "red", "", "500nm,600nm", "1nm,2nm,3nm"),
             "--out": ("", "/none/view.png", "view.txt", "view", "/")},
    "report": {"--pixel": (*PAIR[:5], "99,0"), "--rgb": ("1,2", "0,1,2", "1,2,7"), "--threads": ("0", "1.5"),
               "--peak": POSITIVE, "--out": ("", "/none/report.html", "report.png", "/")},
    "train": {**SCENE, "--test": (*REGION, ":,:"), "--scale": ("0", "-2", "x", "3"),
              "--channels": ("0", "-16", "17", "x"),
              "--blocks": ("-1", "1.5"), "--groups": ("0", "3", "-1", "x"), "--steps": ("0", "-1", "x", "1.5"),
              "--epochs": ("0", "-1", "2"), "--max-minutes": POSITIVE, "--batch-size": ("0", "-1", "x"),
              "--patch": ("0", "-1", "1000", "x"), "--stride": ("0", "-1", "x"), "--train-region": REGION[:-1],
              "--validation": ("1", "-0.5", "nan", "2", "0", "much", ":,:", "0:4,12:20"), "--learning-rate": POSITIVE,
              "--final-learning-rate": NUMBER, "--sam-weight": NUMBER, "--gradient-weight": NUMBER,
              "--gradient-clip": POSITIVE, "--drop-path": ("-0.1", "1", "nan", "x"),
              "--validate-every": ("0", "-1", "x"),
              "--monitor": CHOICE, "--precision": ("64-bit", "", "fast"), "--device": ("tpu9", "gpu0", ""),
              "--workers": ("-1", "x"), "--threads": ("0", "x"), "--network": CHOICE, "--seed": ("x", "1.5", "9" * 30),
              "--out": ("/dev/null/run", "")},
    "rank": {"--share": (*POSITIVE, "1.01"), "--size": PAIR, "--fresh": CHOICE,
             "--out": ("rank.txt", "/none/rank.png", "")},
    "export": {"--size": PAIR, "--opset": (*WHOLE, "12", "21"), "--threads": ("0", "x")},
    "bench": {"--bands": WHOLE, "--size": PAIR[1:], "--scale": WHOLE, "--batch": WHOLE, "--train-batch": WHOLE,
              "--train-size": PAIR[1:], "--network": CHOICE, "--groups": ("0", "3", "x"), "--blocks": ("-1", "x"),
              "--channels": ("0", "x", "17"), "--backend": ("tpu", ""), "--what": CHOICE, "--seconds": POSITIVE,
              "--out": ("/none/bench.json", "")},
    "demo": {"--out": ("/dev/null/demo", ""), "--seed": ("x",), "--colour": ("red",)},
}  # fmt: skip
CONTRADICTORY: tuple[tuple[str, Callable[[Place], list[Any]]], ...] = (
    ("super-resolve with -c and --fresh", lambda p: [*_good("super-resolve", p), "--fresh", "lkca_lr"]),
    ("super-resolve with neither", lambda p: ["super-resolve", p.good / "own.npy", p.outputs / "sr.npy"]),
    ("super-resolve of other bands", lambda p: [*_good("super-resolve", p), "--axes", "hcw"]),
    ("super-resolve to its own folder", lambda p: ["super-resolve", p.good / "own.npy", p.good, *_net(p)]),
    ("super-resolve to no suffix", lambda p: ["super-resolve", p.good / "own.npy", p.outputs / "sr", *_net(p)]),
    ("super-resolve beyond memory", lambda p: ["super-resolve", p.good / "own.npy", p.outputs / "sr.npy", "--fresh",
                                               "lkca_lr", "--overwrite", "--scale", 10**6]),
    ("super-resolve with an overlap beyond its tile",
     lambda p: [*_good("super-resolve", p), "--tile", "4,4", "--overlap", 4]),
    ("super-resolve with an overlap below 0", lambda p: [*_good("super-resolve", p), "--tile", "4,4", "--overlap", -1]),
    ("super-resolve to a file that is there",
     lambda p: ["super-resolve", p.good / "own.npy", p.good / "own.npz", *_net(p)]),
    ("super-resolve with --overwrite and --skip-existing", lambda p: [*_good("super-resolve", p), "--skip-existing"]),
    ("super-resolve three without --out-dir", lambda p: ["super-resolve", p.good / "own.npy", p.good / "own.npz",
                                                         p.outputs / "sr.npy", *_net(p)]),
    ("super-resolve two of one name", lambda p: ["super-resolve", p.good / "own.npy", p.good / "own.npz", *_net(p),
                                                 "--out-dir", p.outputs / "new"]),
    ("super-resolve over the scene", lambda p: ["super-resolve", p.good / "own.npy", *_net(p), "--out-dir", p.good,
                                                "--overwrite"]),
    ("super-resolve into a file for a folder", lambda p: ["super-resolve", p.good / "own.npy", *_net(p), "--out-dir",
                                                          p.good / "own.npz"]),
    ("super-resolve beyond memory in tiles", lambda p: [
        "super-resolve", p.good / "own.npy", p.outputs / "sr.npz", "--fresh", "lkca_lr", "--scale", 10**6,
        "--overwrite", "--tile", "8,8"]),
    ("super-resolve beyond memory with --force", lambda p: [
        "super-resolve", p.good / "own.npy", p.outputs / "sr.npy", "--fresh", "lkca_lr", "--scale", 10**6, "--force",
        "--overwrite"]),
    ("distill from a scene", lambda p: ["distill", *_distill(p, p.good / "own.npz")]),
    ("distill without a teacher", lambda p: ["distill", *_distill(p, p.good)[:1], "--out", p.outputs / "run"]),
    ("distill of other bands", lambda p: [*_good("distill", p), "--axes", "hcw"]),
    ("distill for a teacher of another scale", lambda p: [*_good("distill", p), "--scale", 4]),
    ("distill with --overwrite and --resume", lambda p: [*_good("distill", p), "--overwrite", "--resume"]),
    ("distill resumes nothing", lambda p: [*_good("distill", p), "--resume"]),
    ("distill resumes a run of train", lambda p: [*_good("distill", p), "--out", p.good / "run", "--resume"]),
    ("train into another run", lambda p: [*_good("train", p), "--out", p.good / "run"]),
    ("train a prepared folder with --test",
     lambda p: ["train", p.good / "tiny", "--test", ":,:4", "--out", p.outputs / "run"]),
    ("train a prepared folder of another scale",
     lambda p: ["train", p.good / "tiny", "--scale", 4, "--out", p.outputs / "run"]),
    ("evaluate a prepared folder with --region", lambda p: ["evaluate", p.good / "tiny", *_net(p), "--region", ":,:"]),
    ("evaluate a prepared folder, --reported", lambda p: ["evaluate", p.good / "tiny", *_net(p), "--reported"]),
    ("evaluate --per-image of a scene", lambda p: [*_good("evaluate", p), "--per-image"]),
    ("prepare onto a prepared folder", lambda p: _prepare(p.good / "tiny.npy", p.good / "tiny")),
    ("prepare onto a run", lambda p: [*_prepare(p.good / "tiny.npy", p.good / "run"), "--overwrite"]),
    ("prepare an unknown protocol", lambda p: ["prepare", "cave", p.good / "tiny.npy", "--out", p.outputs / "x"]),
    ("prepare a folder", lambda p: _prepare(p.good / "folder", p.outputs / "x")),
    ("prepare nothing there", lambda p: _prepare(p.inputs / "none.mat", p.outputs / "x")),
    ("prepare a checkpoint", lambda p: _prepare(p.good / "net.safetensors", p.outputs / "x")),
    ("train for steps and epochs", lambda p: [*_good("train", p), "--epochs", 1]),
    ("train without a test region", lambda p: [*_good("train", p)[:2], *_good("train", p)[4:]]),
    ("train without an out", lambda p: [*_good("train", p)[:4], *SMALL]),
    ("train with test and training alike", lambda p: [*_good("train", p), "--train-region", ":,12:"]),
    ("train with patches beyond the rest", lambda p: [*_good("train", p), "--train-region", "0:6,0:6"]),
    ("train with validation inside the test", lambda p: [*_good("train", p), "--validation", "0:16,12:20"]),
    ("train into a file", lambda p: [*_good("train", p)[:5], p.good / "own.npy", *SMALL]),
    ("evaluate of another scale", lambda p: [*_good("evaluate", p), "--scale", 3]),
    ("evaluate of another size", lambda p: ["evaluate", p.good / "own.npz", "--scale", 2, "--prediction",
                                            p.good / "own.npz", "--region", "0:8,0:8", "--peak", PEAK, "-c"]),
    ("evaluate of nothing there", lambda p: ["evaluate", p.inputs / "none.mat"]),
    ("degrade to its own folder", lambda p: ["degrade", p.good / "own.npy", p.good, "--scale", 2]),
    ("degrade to an unknown suffix", lambda p: ["degrade", p.good / "own.npy", p.outputs / "x.tar", "--scale", 2]),
    ("a key for one array", lambda p: ["info", p.good / "counts.npy", "--key", "scene"]),
    ("size without pixel lists", lambda p: ["info", p.good / "counts.npz", "--size", "16,20"]),
    ("axes of a scene of write_scene", lambda p: ["info", p.good / "own.npz", "--axes", "hwc"]),
    ("rank of nothing", lambda _: ["rank"]),
    ("rank of a scene", lambda p: ["rank", p.good / "own.npz"]),
    ("export of a scene", lambda p: ["export", p.good / "own.npz", p.outputs / "x.onnx"]),
    ("export to a folder that is not there", lambda p: ["export", *_net(p)[1:], p.outputs / "none" / "x.onnx"]),
    ("an unknown command", lambda _: ["upscale"]),
    ("an unknown option", lambda _: ["--colour", "info"]),
    ("files that are not there", lambda p: ["info", p.good / "own.npz", "more", "of", "them"]),
    ("a name with a null byte", lambda _: ["info", "a\0b.mat"]),
    ("a name that is too long", lambda _: ["info", "x" * 5000 + ".mat"]),
    ("a name with line breaks", lambda _: ["info", "a\nerror: b\n.mat"]),
)  # fmt: skip


def cases() -> Iterator[Case]:
    for command, options in OPTIONS.items():
        for option, values in options.items():
            for value in values:
                yield Case(f"option: {command}", f"{option} {value!r:.20}", _with(command, option, value))
    for name, make in CONTRADICTORY:
        yield Case("option: contradictory", name, make)


def _net(place: Place) -> list[Any]:
    return ["-c", place.good / "net.safetensors"]


def _distill(place: Place, teacher: Path) -> list[Any]:
    line = [place.good / "counts.npz", "--teacher", teacher, "--test", ":,12:", "--out", place.outputs / "run"]
    return [*line, *SMALL[2:]]


def _prepare(file: Path, out: Path) -> list[Any]:
    return ["prepare", "tiny", file, "--out", out, "--scale", SCALE]


def _good(command: str, place: Place) -> list[Any]:
    """A command line that works."""
    if command == "rank":
        return ["rank", place.good / "net.safetensors"]
    if command == "export":
        return ["export", place.good / "net.safetensors", place.outputs / "net.onnx"]
    if command in ("bench", "demo"):
        return [command]
    if command == "report":
        return ["report", place.good / "run", place.good / "counts.npz", "--out", place.outputs / "report.html"]
    if command == "distill":
        return ["distill", *_distill(place, place.good / "net.safetensors")]
    return scene_command(command, place.good / "counts.npz", place.good, place.outputs)


def _with(command: str, option: str, value: str) -> Callable[[Place], list[Any]]:
    def make(place: Place) -> list[Any]:
        line = _good(command, place)
        if option in line:  # click takes the last of an option given twice, but one of them may be a list
            at = line.index(option)
            line = line[:at] + line[at + 2 :]
        return [*line, f"{option}={value}"]

    return make
