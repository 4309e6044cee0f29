"""`meddx score` as a job:  ray job submit --working-dir . -- python jobs/score.py ..."""

import sys

from meddx.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
