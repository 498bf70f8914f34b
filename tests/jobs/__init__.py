"""Tests of twisted_bulk/jobs/."""
