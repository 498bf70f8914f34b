"""The program as a whole, and what its documents say."""
