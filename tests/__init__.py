"""The trial test suite: ``python -m twisted.trial -j3 tests``."""
