"""The trial test suite: ``python -m twisted.trial tests``."""
