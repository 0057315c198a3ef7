"""The scene that most tests of training are on."""

import pytest

from lkcanet.data.scenes import Scene

from .training_helpers import small_scene


@pytest.fixture(scope="package")
def scene() -> Scene:
    return small_scene()
