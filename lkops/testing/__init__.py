"""For whoever writes a kernel or an operator, here or elsewhere: arguments for operators, and what is close enough.

    from lkops import testing

    for case in testing.examples("upsample_add").cases:
        testing.check("upsample_add", "cpu", "cpu", torch.float32, case)  # backend, device; against float64

An operator of your own is registered with `lkops.testing.register` as lkops registers its own; its module has an
`examples.py` beside its `reference.py`, with one `EXAMPLES`:

    EXAMPLES = Examples(draw, eager, work, (example("plain", 2, 8, 8, 8), ...), images=("x",))

Then everything here takes it by its name.
"""

from .._core.autograd import OPERATORS
from .._core.examples import (
    BEYOND_THE_REACH,
    IMAGES,
    ONE_CHANNEL,
    SHAPES,
    TORCH_BICUBIC,
    Arguments,
    Draw,
    Example,
    Examples,
    Work,
    benchmarks,
    example,
)
from .._core.operator import Kernels, Operator
from .._core.registration import register
from .closeness import Distance, Policy, WrongResult, assert_as_good_as_eager, distances, share_of_allowed
from .running import arguments, as_tuple, cast, check, compare, examples, invoke, operator, policy_of, run

__all__ = [
    "BEYOND_THE_REACH",
    "IMAGES",
    "ONE_CHANNEL",
    "OPERATORS",
    "SHAPES",
    "TORCH_BICUBIC",
    "Arguments",
    "Distance",
    "Draw",
    "Example",
    "Examples",
    "Kernels",
    "Operator",
    "Policy",
    "Work",
    "WrongResult",
    "arguments",
    "as_tuple",
    "assert_as_good_as_eager",
    "benchmarks",
    "cast",
    "check",
    "compare",
    "distances",
    "example",
    "examples",
    "invoke",
    "operator",
    "policy_of",
    "register",
    "run",
    "share_of_allowed",
]
