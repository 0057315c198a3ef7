"""The contract's values and gradients for drawn shapes and options, on every compiled kernel that is here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lkops.testing import check
from tests.lkops.ops.harness import case_of, cases, runs

COMPILED = runs(compiled_only=True)
EXAMPLES = 6 if torch.cuda.is_available() else 60  # on a GPU, many a new shape compiles kernels again


@pytest.mark.exhaustive
@pytest.mark.skipif(not COMPILED, reason="no compiled kernel here")
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_values_and_gradients_of_any_shape(data) -> None:
    operator, backend, device, dtype = data.draw(st.sampled_from(COMPILED or [None]))
    side = st.integers(1, 12 if (backend, device) == ("triton", "cpu") else 40)  # interpreted: seconds a call
    shape = (data.draw(st.integers(0, 3)), 4 * data.draw(st.integers(1, 3)), data.draw(side), data.draw(side))
    base = data.draw(st.sampled_from(cases(operator)))
    if base.options.get("empty_spectra"):
        return
    options = dict(base.options)
    if "scale" in options:
        options["scale"] = data.draw(st.integers(1, 9))
    options.pop("groups", None)
    check(operator, backend, device, dtype, case_of("drawn", shape, options, base.without))
