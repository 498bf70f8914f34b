"""The trial test suite: ``python -m twisted.trial -j3 tests``."""

from hypothesis import HealthCheck, settings

# Three processes on two cores: how long an example takes says nothing.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
