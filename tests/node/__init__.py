"""Tests of twisted_bulk/node/."""
