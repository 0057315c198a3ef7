"""The C++ kernels give the bits that they gave when bits.json was written."""

import json

import pytest

from tests.lkops import isas
from tests.lkops.ops import bits

KEPT = json.loads(bits.FILE.read_text())


@pytest.mark.parametrize("isa", KEPT)
def test_outputs_and_gradients_keep_their_bits(isa: str) -> None:
    if reason := isas.why_not(isa):
        pytest.skip(reason)
    now = bits.of(isa)
    assert now.keys() == KEPT[isa].keys()
    differ = [f"{key}: {what}" for key, kept in KEPT[isa].items() for what in kept if now[key].get(what) != kept[what]]
    assert not differ
