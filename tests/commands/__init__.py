"""Tests of twisted_bulk/commands/."""
