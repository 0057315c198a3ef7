"""Scenes, degradation, patches and the generated demo scene."""
