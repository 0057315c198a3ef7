"""How `--help` shows options: in panels by what they are about, each with its default."""

from typing import Any

__all__ = ["panel_of", "says_no_default"]

PANELS = {
    "How scenes are read": (
        "key axes size peak nodata nodata_in bands wavelengths drop_bad_bands raw region msi_key msi_axes msi_peak "
        "prediction_axes"
    ),
    "Regions and patches": "test train_region validation patch stride one_peak augment",
    "The network": "network model set channels blocks groups drop_path scale init whiten",
    "The loss": "objective sam_weight gradient_weight psnr_weight floor",
    "Distillation": "teacher on alpha decay frequency kd_cosine_weight kd_sam_weight kd_gradient_weight",
    "The course": (
        "steps epochs max_minutes batch_size optimizer learning_rate final_learning_rate warmup ema gradient_clip seed "
        "validate_every monitor"
    ),
    "How images are made": "psf_sigma snr msi_snr noise_on msi response msi_out",
    "The run": "out overwrite resume tensorboard precision device devices workers threads json config",
}
_OF = {option: panel for panel, options in PANELS.items() for option in options.split()}
_LEAST = 30  # options of a command by which its help has panels


def panel_of(option: str, count: int) -> str | None:
    """The panel of an option, by its name in Python, of a command with so many; None: that of all others."""
    return _OF.get(option) if count >= _LEAST else None


def says_no_default(option: Any) -> bool:
    """Whether an option without a value as its default says nothing of what happens then; a switch is off."""
    text = (option.help or "").lower()
    told = isinstance(option.show_default, str) or "default" in text or "left out" in text
    return not (option.required or option.is_flag or option.default is not None or told)
