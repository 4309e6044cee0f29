"""`python -m meddx` is the command `meddx`."""

import sys

from meddx.cli import main

sys.exit(main())
