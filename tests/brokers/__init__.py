"""Tests of twisted_bulk/brokers/."""
