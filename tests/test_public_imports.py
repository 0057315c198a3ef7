"""Every public name imports from the path that it had before its module moved into a room."""

import json
from importlib import import_module
from pathlib import Path

import pytest

NAMES = json.loads(Path(__file__).with_name("public_imports.json").read_text())


@pytest.mark.parametrize("module", NAMES)
def test_names_keep_their_paths(module: str) -> None:
    found = import_module(module)
    missing = [name for name in NAMES[module] if not hasattr(found, name)]
    assert not missing


def test_an_old_path_gives_the_same_module() -> None:
    assert import_module("lkcanet.metrics") is import_module("lkcanet.evaluation.metrics")
    assert import_module("lkops.losses.reference") is import_module("lkops.ops.spectral_losses.reference")
