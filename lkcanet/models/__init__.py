"""The networks, and the files they live in."""

from . import pretrained
from .capabilities import Capabilities, Compression, Lacking, Strips, Upsampler, WorkingMemory
from .checkpoints import load_model, load_model_and_extra, save_model
from .csakd import (
    CSAKD,
    csakd_student,
    csakd_student_as_described,
    csakd_student_l,
    csakd_student_l_as_described,
    csakd_teacher,
    csakd_teacher_l,
)
from .lkca_res import LKCARes
from .lkcanet import LKCANet, lkca_lr, lkca_net
from .registry import KINDS, PRESETS, Network, Preset, register
from .start import Start, start_from

__all__ = [
    "CSAKD",
    "KINDS",
    "PRESETS",
    "Capabilities",
    "Compression",
    "LKCANet",
    "LKCARes",
    "Lacking",
    "Network",
    "Preset",
    "Start",
    "Strips",
    "Upsampler",
    "WorkingMemory",
    "csakd_student",
    "csakd_student_as_described",
    "csakd_student_l",
    "csakd_student_l_as_described",
    "csakd_teacher",
    "csakd_teacher_l",
    "lkca_lr",
    "lkca_net",
    "load_model",
    "load_model_and_extra",
    "pretrained",
    "register",
    "save_model",
    "start_from",
]
