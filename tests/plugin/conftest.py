"""Lets the tests of this folder import how commands are run end to end."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
