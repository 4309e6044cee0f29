"""`meddx ingest` as a job:  ray job submit --working-dir . -- python jobs/ingest.py ..."""

import sys

from meddx.cli import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
