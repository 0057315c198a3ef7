"""The instruction sets of the C++ kernels, for the tests that ask for one: which there are, and why one can't run."""

import re

from lkops._core.extension import build_facts, cpu_facts

# as users name them, from the narrowest; those that LKOPS_ISAS left out are among them
NAMES = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in build_facts().get("isa_flags", ())]


def why_not(isa: str) -> str:
    """Why no process here can run with it; "" if one can."""
    facts = cpu_facts()
    if isa not in facts.get("compiled_in", ()):
        return f"{isa} is not built (LKOPS_ISAS; make test-all builds all), only {facts.get('compiled_in', [])}"
    return "" if isa in facts["cpu_supports"] else f"{isa}: CPU supports {facts['cpu_supports']}"
