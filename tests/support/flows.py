"""Flows of a throttle whose clients take everything."""

RATE = 200_000


class Endless:
    """A transfer whose client takes everything, or nothing while it is stuck."""

    def __init__(self, left: int = 1 << 60) -> None:
        self.sent = 0
        self.left = left

    def send(self, most: int) -> int:
        count = min(most, self.left)
        self.sent += count
        self.left -= count
        return count
