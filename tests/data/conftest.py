"""Settings of the tests on shared machines."""

from hypothesis import settings

settings.register_profile("shared", deadline=None)  # a busy machine is no failure
settings.load_profile("shared")
