"""Tests of twisted_bulk/notify/."""
