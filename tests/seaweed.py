"""A real S3 server for tests: SeaweedFS from PyPI on free ports, killed at the end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER, SECRET = "meddx", "meddx-secret"


def free_ports(count: int) -> list[int]:
    """Free ports whose +10000 siblings (the server's gRPC ports) are free, too, and are none of the others."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port > 50000 or {port, port + 10000, port - 10000} & set(found):
                continue
            try:
                two.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
        found.append(port)
    return found


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Start the server on `folder`; yields its endpoint."""
    weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": USER, "credentials": [{"accessKey": USER, "secretKey": SECRET}], "actions": actions}
    (folder / "ids.json").write_text(json.dumps({"identities": [identity]}))
    ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={folder / 'ids.json'}", *flags]
    command += ["-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "HOME": str(folder)})
        try:
            endpoint = f"http://127.0.0.1:{ports['s3']}"
            _wait(endpoint, process, folder)
            yield endpoint
        finally:
            process.kill()
            process.wait()


def use(patch: Any, endpoint: str) -> None:
    """Set the environment (a pytest.MonkeyPatch) so that clients talk to `endpoint`: the server, or a proxy before it."""
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", USER)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_REGION", "us-east-1")


def make_bucket(endpoint: str, name: str) -> None:
    import boto3

    keys = {"aws_access_key_id": USER, "aws_secret_access_key": SECRET}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=name)


def _wait(endpoint: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return  # it answers: 403 without credentials
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 server did not start: " + (folder / "log.txt").read_text()[-2000:])
