"""The same jobs with each queue: ``python -m bench.peers.<name> <what> <count>``."""
