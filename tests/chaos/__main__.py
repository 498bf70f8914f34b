"""``python -m tests.chaos``: a long storm, and its counts."""

import argparse
import sys
import time

from tests.chaos.storm import Storm


def main() -> None:
    """Run one storm."""
    parser = argparse.ArgumentParser(description="Kill, freeze and cut off; count what is lost.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--lease", type=float, help="seconds (default: the program's 30)")
    parser.add_argument("--sabotage", choices=("fence", "renewal", "fsync"), default="")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    storm = Storm(
        workers=given.workers, lease=given.lease, sabotage=given.sabotage, seed=given.seed
    )
    began = time.monotonic()
    try:
        count = storm.run(given.batches, given.minutes * 60)
        print(f"{time.monotonic() - began:.0f} s: {count}")
        for what in count.wrong[:20]:
            print("wrong:", what)
        if count.wrong:
            print((storm.data / "workers.log").read_text()[-20000:], file=sys.stderr)
    finally:
        storm.close()
    sys.exit(bool(count.wrong))


if __name__ == "__main__":
    main()
