"""The runs of the experiment on CAVE: what each is trained with, and what it starts from."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["CHECKPOINT", "PAIRS", "RUNS", "Run", "command_line", "folder_of", "history"]

CHECKPOINT = "last.safetensors"


class Run(NamedTuple):
    """One command of `lkca`.

    Attributes:
        command: train, distill or compress.
        options: of it.
        start: the run whose last weights it starts from.
        teacher: the run that teaches, of distill.
    """

    command: str
    options: list[str]
    start: str | None = None
    teacher: str | None = None


# All was chosen in runs of 400 to 1000 steps, on the validation scenes. Small patches learn sooner, as a batch has more
# scenes; then large ones: in 24 x 24 pixels most taps of a dilated conv see nothing but the border, in a whole image
# all see the image (LKCA-Net: +0.13 dB and -0.10 degrees after 400 steps of patches of 48).
COMMON = ["--stride", "25", "--warmup", "200", "--ema", "0.999", "--threads", "1", "--validate-every", "500"]
FIRST = [
    *("--patch", "24", "--batch-size", "8", "--whiten", "0.1", "--sam-weight", "0.2"),
    *("--learning-rate", "1e-3", "--final-learning-rate", "2e-5", *COMMON),
]
SECOND = [
    *("--patch", "48", "--batch-size", "2", "--sam-weight", "0.3", "--psnr-weight", "0.003"),
    *("--optimizer", "muon", "--learning-rate", "6e-4", "--final-learning-rate", "1e-5", *COMMON),
]
THIRD = ["--learning-rate", "3e-4", "--threads", "2"]  # what is not said is as in the second course
# 400 steps from LKCA-Net-local-24, on the validation scenes: SAM's weight 0.3 33.044 dB and 3.129 degrees, 0.1 33.058
# and 3.168; with a psnr weight of 0.01 worse after 200
FOURTH = ["--sam-weight", "0.1"]
CLIPPED = ["--gradient-clip", "0.05"]  # LKCA-Net's second course had a leap of the loss at step 2,800; norms are 0.01
LOCAL = ["--set", "dilations=[1,3]"]  # 500 steps from the weights of dilations (5, 7) are enough to be where those are
FAST = ["--optimizer", "muon", "--precision", "bf16-mixed"]  # 1.27 times the steps, the losses of the first 40 to 0.2 %
ALL = ["--validation", "patches:0.02"]  # of a set prepared with `--validation none`: nothing is left to be chosen
TAUGHT = ["--alpha", "0.5", "--decay", "1"]
NET = ["--network", "lkca_net", "--set", "weight_norm=false", "--drop-path", "0"]
LR = ["--network", "lkca_lr", "--set", "weight_norm=false", "--drop-path", "0"]
RES = ["--model", "lkca_res"]
RUNS = {
    "LKCA-Net-24": Run("train", [*NET, *FIRST]),
    "LKCA-Res-24": Run("train", [*RES, *FIRST]),
    "LKCA-Net": Run("train", [*NET, *SECOND], "LKCA-Net-24"),
    "LKCA-Res": Run("train", [*RES, *SECOND], "LKCA-Res-24"),
    "LKCA-Net-24-g8": Run("compress", ["--groups", "8", "--permute"], "LKCA-Net-24"),
    "LKCA-LR": Run("train", [*LR, *SECOND], "LKCA-Net-24-g8"),
    "LKCA-KD": Run("distill", [*LR, *SECOND, *TAUGHT], "LKCA-Net-24-g8", "LKCA-Res-24"),
    "LKCA-Net-local-24": Run("train", [*NET, *LOCAL, *FIRST, *CLIPPED, *FAST]),
    "LKCA-Net-local": Run("train", [*NET, *LOCAL, *SECOND, *CLIPPED, *FAST, *ALL], "LKCA-Net-local-24"),
    "LKCA-Net-local-3": Run("train", [*NET, *LOCAL, *SECOND, *CLIPPED, *FAST, *ALL, *THIRD], "LKCA-Net-local"),
    "LKCA-Net-local-4": Run("train", [*NET, *LOCAL, *SECOND, *CLIPPED, *FAST, *ALL, *FOURTH], "LKCA-Net-local-3"),
    "LKCA-KD-local-24": Run("distill", [*LR, *LOCAL, *FIRST, *CLIPPED, *FAST, *TAUGHT], None, "LKCA-Res-24"),
    "LKCA-KD-local": Run(
        "distill", [*LR, *LOCAL, *SECOND, *CLIPPED, *FAST, *ALL, *TAUGHT], "LKCA-KD-local-24", "LKCA-Res-24"
    ),
    "LKCA-LR-local-24": Run("train", [*LR, *LOCAL, *FIRST, *CLIPPED, *FAST]),
    "LKCA-LR-local": Run("train", [*LR, *LOCAL, *SECOND, *CLIPPED, *FAST, *ALL], "LKCA-LR-local-24"),
    "LKCA-Res-local": Run("train", [*RES, *SECOND, *CLIPPED, *FAST, *ALL], "LKCA-Res-24"),
    "LKCA-Net-rank32": Run("compress", ["--rank", "32"], "LKCA-Net"),
    "LKCA-Net-local-rank32": Run("compress", ["--rank", "32"], "LKCA-Net-local-3"),
}

PAIRS = [("LKCA-KD-local", "LKCA-LR-local")]  # as many steps of both, one with a teacher


def folder_of(label: str) -> str:
    """The folder of a run."""
    return label.lower()


def history(label: str) -> list[str]:
    """The run, the one that it starts from, and so on."""
    start = RUNS[label].start
    return [label, *([] if start is None else history(start))]


def command_line(data: Path, label: str, runs: Path, end: list[str]) -> list[str]:
    """The run's command, after `lkca`; `end` is the option after which a training ends. A compression takes none."""
    run, out = RUNS[label], runs / folder_of(label)
    start = [] if run.start is None else [_weights(run.start, runs)]
    if run.command == "compress":
        return ["compress", *start, str(out / CHECKPOINT), *run.options, "--scene", str(data), "--threads", "1"]
    if not end:
        raise ValueError(f"--minutes or --steps must be given for {label}, which is trained")
    line = [run.command, str(data), *run.options]
    if run.teacher is not None:
        line += ["--teacher", _weights(run.teacher, runs)]
    if start:
        line += ["--init", *start]
    return [*line, *end, "--out", str(out)]


def _weights(name: str, runs: Path) -> str:
    return str(runs / folder_of(name) / CHECKPOINT)
