"""Processes that tests look at from outside."""

from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process runs (and is not only waiting to be buried)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
