"""What the tests of reproduction share: a small image, prepared, and a recipe that takes seconds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import demo_scene, prepare
from lkcanet.reproduce.loader import read
from lkcanet.reproduce.recipes import Paper

from ..data.protocol_helpers import SMALL

for package in ("lightning", "safetensors", "matplotlib", "scipy", "typer", "rich"):
    pytest.importorskip(package, reason=f"{package} is not installed")

TINY = """
title = "A tiny paper"
source = "this test"
[training]
steps = 6
batch_size = 2
validate_every = 2
log_every = 1
floor = 0.0
[recipe]
place = "nowhere"
ours = ["all of it"]
[networks.bicubic]
[networks.net]
preset = "lkca_net"
set = { channels = 16, blocks = 1, reduction = 8 }
[networks.KD]
preset = "lkca_lr"
set = { channels = 16, blocks = 1, reduction = 8, upsample_groups = 2 }
teacher = "net"
distillation = { alpha = 0.1 }
[networks.absent]
preset = "no_such_network"
[entries.table-1]
title = "All kinds of rows"
data = "small"
scales = [2]
rows = ["bicubic", "net", "KD", "absent", { name = "never", why = "nobody has its weights" }]
[entries.table-2]
title = "The same teacher"
data = "small"
scales = [2]
rows = ["net", { name = "SAM, gradient", network = "KD", distillation = { cosine_weight = 0.0 } }]
[entries.figure-1]
title = "Ranks"
kind = "rank"
data = "small"
scales = [2]
rows = ["net"]
[entries.figure-2]
title = "A diagram"
why = "nothing is computed"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny recipe, with texts in it replaced: recipe(("steps = 6", "steps = 4"))."""

    def write(*changes: tuple[str, str]) -> Path:
        text = TINY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "tiny.toml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def tiny(recipe: Callable[..., Path]) -> Paper:
    return read(recipe())


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("image") / "small.npy"
    np.save(file, demo_scene((80, 64), 6, seed=2).pixels * 4000)
    return file


@pytest.fixture(scope="session")
def prepared(image: Path) -> Path:
    return prepare(SMALL, image, image.parent / "prepared", scale=2).folder


def report_of(out: Path, name: str) -> dict:
    """The machine-readable report."""
    return json.loads((out / f"{name}.json").read_text())
