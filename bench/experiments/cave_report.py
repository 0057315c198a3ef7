"""The experiment on CAVE as Markdown, learning curves and a picture; from its JSON file, without another look."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bench.environment import said
from bench.experiments.cave_runs import PAIRS
from lkcanet.common.files import atomic_path
from lkcanet.common.plots import COLOURS, plain
from lkcanet.data import PreparedSet, simulate_lowres
from lkcanet.evaluation.figures import before_and_after, save_figure
from lkcanet.evaluation.reported import reported
from lkcanet.models import load_model

# in the order of the published table: name, digits
SCORES = {"cc": ("CC", 4), "sam": ("SAM (°)", 4), "rmse": ("RMSE", 4), "ergas": ("ERGAS", 4),
          "mpsnr": ("MPSNR (dB)", 4), "mssim": ("MSSIM", 4)}  # fmt: skip


def markdown(found: dict[str, Any]) -> str:
    """The tables, and what they are of."""
    scale, networks = found["scale"], found["networks"]
    looks = ", ".join(f"{label} {each['looks']}" for label, each in networks.items())
    head = ["", "parameters", "GMAC at 16x16", *(name for name, _ in SCORES.values())]
    runs = {told["label"]: told for each in networks.values() for told in stages(each["training"])}
    validation = sorted({scene for told in runs.values() for scene in told["validation_scenes"]})
    lines = [
        f"# CAVE x{scale}, SSPSR's protocol: {len(networks)} networks of ours beside the published table",
        "",
        f"Scored on {said(found['environment'])}. Twelve test scenes of 512 x 512 pixels and 31 bands, MATLAB's "
        f"bicubic, values divided by the full scale of the PNGs; MSSIM of {found['ssim']} windows. Rows marked "
        "(published) are of the figure of SSPSR's repository. Validation scenes, by which everything was chosen: "
        f"{', '.join(validation)}; a run of 20 scenes trains on them too, and chose nothing. "
        f"Looks at the test scenes: {looks}. Weights as the package "
        "stores them, rounded to bfloat16. (ensemble): mean over eight orientations, eight times the work.",
        "",
        _row(head),
        _row(["---", *["---:"] * (len(head) - 1)]),
    ]
    rows = reported("cave", scale)
    lines += [_row([f"{entry.method} (published)", "-", "-", *_cells(entry.scores)]) for entry in rows]
    for label, each in networks.items():
        size = [f"{each['parameters'] / 1e6:.3f} M", f"{each['macs_16x16'] / 1e9:.3f}"]
        lines.append(_row([f"**{label}**", *size, *_cells(each["scores"]["mean"])]))
        lines.append(_row([f"{label} (ensemble)", *size, *_cells(each["ensemble"]["mean"])]))
    lines += ["", "## How they were trained", "", "| | scenes | hours | steps | commit | command |"]
    lines.append("|---|---:|---:|---:|---|---|")
    for label, told in runs.items():
        row = [
            label,
            str(told["training_scenes"]),
            f"{told['hours']:.2f}",
            str(told["steps"]),
            told["commit"][:12],
            f"`{told['command']}`",
        ]
        lines.append(_row(row))
    lines += ["", f"![Learning curves](cave_x{scale}.svg)", "", *_images(found), ""]
    lines += [f"![The oil painting, a test scene](cave_x{scale}.png)", ""]
    return "\n".join(lines)


def stages(training: dict[str, Any]) -> list[dict[str, Any]]:
    """What is noted of the runs that a network went through, the first one first."""
    return [*reversed(training.get("before", [])), training]


def _images(found: dict[str, Any]) -> list[str]:
    """MPSNR and SAM of each test scene."""
    networks = found["networks"]
    lines = ["## Each test scene: MPSNR (dB) / SAM (°)", "", _row(["", "bicubic", *networks])]
    lines.append(_row(["---", *["---:"] * (1 + len(networks))]))
    for image, bicubic in found["bicubic"]["images"].items():
        columns = [bicubic, *(each["scores"]["images"][image] for each in networks.values())]
        lines.append(_row([image, *(f"{each['mpsnr']:.2f} / {each['sam']:.2f}" for each in columns)]))
    for label, each in networks.items():
        images = each["scores"]["images"]
        worse = [name for name, row in found["bicubic"]["images"].items() if images[name]["mpsnr"] <= row["mpsnr"]]
        lines += ["", f"{label} is better than bicubic in MPSNR on {len(images) - len(worse)} of {len(images)}."]
    return lines + _compared(networks)


def _compared(networks: dict[str, Any]) -> list[str]:
    """Of each of PAIRS that was scored: the mean difference over the test scenes, and its standard error."""
    lines = []
    for pair in PAIRS:
        if not set(pair) <= set(networks):
            continue
        first, second = (networks[label]["scores"]["images"] for label in pair)
        said = []
        for name, unit in (("mpsnr", "dB"), ("sam", "degrees")):
            found = [first[image][name] - second[image][name] for image in first]
            said.append(f"{mean(found):+.3f} +- {stdev(found) / len(found) ** 0.5:.3f} {unit}")
        lines += ["", f"{pair[0]} less {pair[1]}, mean over the scenes +- its standard error: {', '.join(said)}."]
    return lines


def _cells(scores: Any) -> list[str]:
    return [f"{scores[name]:.{digits}f}" for name, (_, digits) in SCORES.items()]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def curves(found: dict[str, Any]) -> Any:
    """MPSNR and SAM on the validation scenes over the steps; a run that starts from another goes on where that ended.
    The dashed line is bicubic, where a fresh network starts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for axis, name, label in ((panels[0], "mpsnr", "MPSNR (dB)"), (panels[1], "sam", "SAM (°)")):
        for colour, (run, (begin, curve)) in zip(cycle(COLOURS), _validated(found).items(), strict=False):
            steps = [begin + row["step"] for row in curve]
            axis.plot(steps, [row[name] for row in curve], color=colour, label=run)
            if begin == 0:
                axis.axhline(curve[0][name], color="#888888", linestyle="--", linewidth=1)
        axis.set_xlabel("Steps of 4608 low-resolution pixels")
        axis.set_ylabel(f"{label} on the validation scenes")
        plain(axis)
    panels[0].legend(frameon=False)
    return figure


def _validated(found: dict[str, Any]) -> dict[str, tuple[int, list[dict[str, float]]]]:
    """Runs that have a curve of the validation scenes: the steps before them, the curve."""
    curves: dict[str, tuple[int, list[dict[str, float]]]] = {}
    for each in found["networks"].values():
        begin = 0
        for told in stages({**each["training"], "curve": each["curve"]}):
            if told.get("curve") and told["validation_scenes"]:
                curves.setdefault(told["label"], (begin, told["curve"]))
            begin += told["steps"]
    return curves


def write(prepared: PreparedSet, found: dict[str, Any], file_of: Callable[[str], Path], results: Path) -> None:
    """The three files. `file_of`: a label to the checkpoint of its run."""
    name = f"cave_x{found['scale']}"
    with atomic_path(results / f"{name}.md") as temporary:
        temporary.write_text(markdown(found))
    save_figure(curves(found), results / f"{name}.svg")
    best = max(found["networks"], key=lambda label: found["networks"][label]["scores"]["mean"]["mpsnr"])
    target = next(scene for scene in prepared.test if scene.name.startswith("oil_painting"))
    model = load_model(file_of(best))
    title = f"{best}, x{prepared.scale}: CAVE's oil painting, which it was not trained on"
    save_figure(
        before_and_after(model, simulate_lowres(target, prepared.scale), target, title=title), results / f"{name}.png"
    )
