"""Tests of twisted_bulk/page/."""
