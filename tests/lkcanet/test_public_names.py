"""The names of the main job stand at the package's top, and cost nothing before they are asked for."""

import subprocess
import sys

import pytest

import lkcanet


@pytest.mark.parametrize("name", lkcanet.__all__)
def test_each_is_its_rooms(name: str) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    found = getattr(lkcanet, name)
    assert callable(found)
    assert found.__module__.startswith("lkcanet.")
    assert found.__doc__
    assert name in dir(lkcanet)


def test_the_import_alone_takes_no_optional_package() -> None:
    optional = {"numpy", "torch", "scipy", "lightning", "matplotlib"}
    code = f"import sys, lkcanet; print(sorted({optional} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_names_are_refused_as_ever() -> None:
    with pytest.raises(AttributeError, match="module 'lkcanet' has no attribute 'super_resolv'"):
        lkcanet.super_resolv  # noqa: B018
