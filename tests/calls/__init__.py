"""Tests of twisted_bulk/calls/."""
