"""The trial test suite: ``python -m twisted.trial -j2 tests``."""
