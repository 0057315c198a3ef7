"""Scenes, degradation, patches and the generated demo scene."""

from lkcanet.data.degrade import bicubic_downsample, bicubic_upsample
from lkcanet.data.readers import read_scene
from lkcanet.data.scenes import Scene, scene_from_array
from lkcanet.data.writers import write_scene

__all__ = [
    "Scene",
    "bicubic_downsample",
    "bicubic_upsample",
    "read_scene",
    "scene_from_array",
    "write_scene",
]
