"""Makes `scoring_helper` importable, here and in child processes; one real S3 server a session, for those that ask."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from nights import Night


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Each test is the first on its machine: what another measured would be forecast, and said."""
    place = tmp_path_factory.getbasetemp() / "caches" / str(abs(hash(request.node.nodeid)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a server with one bucket, `nights`."""
    import boto3
    import seaweed

    with seaweed.serve(tmp_path_factory.mktemp("s3")) as endpoint:
        keys = {"aws_access_key_id": seaweed.USER, "aws_secret_access_key": seaweed.SECRET}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="nights")
        yield endpoint


@pytest.fixture
def night_on_s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Night]:
    """Makes nights on that server, each below a prefix of its own."""
    import seaweed
    from nights import Night

    from meddx.storage import StoragePath

    settings = {"ENDPOINT_URL": s3_server, "ACCESS_KEY_ID": seaweed.USER, "SECRET_ACCESS_KEY": seaweed.SECRET, "REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    def make() -> Night:
        name = uuid.uuid4().hex
        return Night(StoragePath.of(f"s3://nights/{name}"), tmp_path / name)

    return make
