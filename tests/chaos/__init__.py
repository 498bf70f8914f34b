"""Chaos: real processes, killed, frozen and cut off at random, and what must hold all the same."""
