"""Images here are tiny: whether parts are faster on them says nothing, and differs from run to run."""

import functools

import pytest

import lkops


@pytest.fixture(scope="package", autouse=True)
def _all_parts_stay():
    """`lkops.fuse` keeps what matches; the choice has its tests in test_fusion_choice, by `lkops.fusion.fuse`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lkops, "fuse", functools.partial(lkops.fuse, keep="all"))
        yield
