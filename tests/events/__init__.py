"""Tests of twisted_bulk/orders/."""
