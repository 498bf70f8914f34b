"""Tests of twisted_bulk/downloads/."""
