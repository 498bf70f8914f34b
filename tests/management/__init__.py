"""Tests of twisted_bulk/api/."""
