"""Scenes, degradation, patches and the generated demo scene."""

# ruff: noqa: E402
from lkcanet.common.optional import require

require("numpy", extra="io")  # everything here is made of it: one clear error instead of one in each module

from lkcanet.data.degrade import bicubic_downsample, bicubic_upsample
from lkcanet.data.encoding import Encoding
from lkcanet.data.facts import describe_scene
from lkcanet.data.formats.readers import read_scene
from lkcanet.data.formats.writers import write_scene
from lkcanet.data.georeference import Georeference
from lkcanet.data.multispectral import (
    FusionPair,
    gaussian_downsample,
    simulate_lowres,
    simulate_msi,
    simulate_pair,
    with_noise,
)
from lkcanet.data.normalise import scene_from_array
from lkcanet.data.patches import PatchPair, SuperResolutionPatches, dihedral
from lkcanet.data.prepare_sets import prepare_cave, prepare_folder
from lkcanet.data.prepared import Prepared, is_prepared, load_prepared, prepare
from lkcanet.data.protocols import PROTOCOLS, Protocol, matlab_range
from lkcanet.data.record import TrainingRecord
from lkcanet.data.resampling import resampling_weights
from lkcanet.data.responses import SpectralResponse, named_response, read_response
from lkcanet.data.scene_sets import read_scenes, scene_paths
from lkcanet.data.scene_splits import split_scenes, training_scene, validation_scene
from lkcanet.data.scenes import Scene
from lkcanet.data.sets import PreparedSet
from lkcanet.data.splits import Rect, Split, default_stride, parse_rect, patch_grid, region_split, whole_pixels
from lkcanet.data.synthetic import demo_scene

__all__ = [
    "PROTOCOLS",
    "Encoding",
    "FusionPair",
    "Georeference",
    "PatchPair",
    "Prepared",
    "PreparedSet",
    "Protocol",
    "Rect",
    "Scene",
    "SpectralResponse",
    "Split",
    "SuperResolutionPatches",
    "TrainingRecord",
    "bicubic_downsample",
    "bicubic_upsample",
    "default_stride",
    "demo_scene",
    "describe_scene",
    "dihedral",
    "gaussian_downsample",
    "is_prepared",
    "load_prepared",
    "matlab_range",
    "named_response",
    "parse_rect",
    "patch_grid",
    "prepare",
    "prepare_cave",
    "prepare_folder",
    "read_response",
    "read_scene",
    "read_scenes",
    "region_split",
    "resampling_weights",
    "scene_from_array",
    "scene_paths",
    "simulate_lowres",
    "simulate_msi",
    "simulate_pair",
    "split_scenes",
    "training_scene",
    "validation_scene",
    "whole_pixels",
    "with_noise",
    "write_scene",
]
