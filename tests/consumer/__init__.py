"""Tests of twisted_bulk/consumer/."""
