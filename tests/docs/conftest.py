"""What a page or an example registers is gone after it."""

from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def registrations() -> Iterator[None]:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from lkcanet.models import registry

    with (
        mock.patch.dict(registry._PLACES),
        mock.patch.dict(registry.PRESETS),
        mock.patch.dict(registry._OBJECTIVES),
    ):
        yield
