"""Tests of twisted_bulk/archive/."""
