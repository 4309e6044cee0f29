"""A command in; it runs with the tests' S3 server and an empty bucket `bench` in its environment, and the server ends with it.

python tests/bench/with_s3.py "python tests/bench/units.py score BUNDLE DATA s3://bench/units && ..."
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from seaweed import SECRET, USER, make_bucket, serve  # noqa: E402


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="meddx-") as folder, serve(Path(folder)) as endpoint:
        make_bucket(endpoint, "bench")
        keys = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        return subprocess.run(sys.argv[1], shell=True, env={**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint}).returncode


if __name__ == "__main__":
    sys.exit(main())
