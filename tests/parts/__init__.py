"""Tests of twisted_bulk/parts/."""
