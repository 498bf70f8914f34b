"""Benchmarks: each measures us beside its peers in one run and prints ratios."""
