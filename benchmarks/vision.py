"""Race Fettle against TRL on rows with pictures, and hold the ratios against bounds.

    .venv/bin/python benchmarks/vision.py [--folder PATH] [--shape tiny] [--lanes vision-trl] [--pairs 5]

As `benchmarks/training.py`, whose measures these are, with a SmolVLM of random weights: both sides adapt the language model,
and learn the answers about the same pictures by the same processor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from racing.runs import BATCH, SEEING, prepare_pictures
from training import machine, pairs, race, require_that_cheats_are_found


def main() -> int:
    """Run the race; 0 when every bound was held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where models, rows and rivals' environments are kept")
    parser.add_argument("--shape", choices=SEEING, default="tiny")
    parser.add_argument("--lanes", default="vision-trl,vision-trl-tuned")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare_pictures((asked.folder or Path(scratch)).resolve(), asked.shape)
        require_that_cheats_are_found(work, "vision-trl")
        print(
            f"\nSmolVLM, {asked.shape}: {work.steps} steps of {BATCH} rows, {work.tokens:,} real tokens; {machine()}",
            flush=True,
        )
        pairs(work, "fettle", min(2, asked.pairs))
        held = [race(work, lane, asked.pairs) for lane in asked.lanes.split(",")]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
