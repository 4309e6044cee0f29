"""`meddx compare` as a job:  ray job submit --working-dir . -- python jobs/compare.py ..."""

import sys

from meddx.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
