"""Lets the tests of models import their helper by name, as a user's package would be."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
