"""``worker``: runs functions of your own on a queue."""

import argparse

from twisted_bulk.commands.output import Output
from twisted_bulk.commands.parser import Parser


def add_worker(parser: Parser) -> None:
    """Add its options."""


def work(options: argparse.Namespace, output: Output) -> int:
    """Run it."""
    return 0
