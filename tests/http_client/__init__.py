"""Tests of twisted_bulk/http_client/."""
