"""Tests of everything that docs/downloads.md says of servers, URLs and names."""
