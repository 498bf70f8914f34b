"""Tests of twisted_bulk/batch/."""
