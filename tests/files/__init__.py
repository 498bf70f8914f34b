"""Tests of twisted_bulk/files/."""
