"""Tests of twisted_bulk/api_client/."""
