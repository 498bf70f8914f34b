"""Tests of twisted_bulk/dialing/."""
