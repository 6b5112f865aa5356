"""What the race of trainers is made of; see `benchmarks/training.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANES = ROOT / "benchmarks" / "lanes"
sys.path.insert(0, str(ROOT))  # the checkout's own `app` and `env_manager`, which are not installed
