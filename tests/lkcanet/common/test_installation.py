"""Facts of the installation."""

import json

import numpy as np
import torch

import lkops
from lkcanet.common import installation


def test_versions_are_those_of_the_packages(monkeypatch) -> None:
    monkeypatch.setattr(installation, "PACKAGES", ("numpy", "no-such-package"))
    facts = installation.describe_installation()
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["no-such-package"] is None
    assert facts["versions"]["lkops"] == lkops.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert {row["operator"] for row in facts["backends"]} == set(lkops.backends.operators())
    json.dumps(facts)
