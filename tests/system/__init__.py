"""Tests of twisted_bulk/system/."""
