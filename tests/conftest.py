"""Settings of all tests."""

import os

try:
    from hypothesis import settings
except ModuleNotFoundError:  # the tests that draw their arguments skip themselves
    pass
else:
    settings.register_profile("ci", derandomize=True, deadline=None)  # a red CI can be repeated
    settings.register_profile("here", deadline=None)
    settings.load_profile("ci" if os.environ.get("CI") else "here")
