"""The same protocol with archive and output on a real S3 server."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import OutputError
from meddx.score.audit import read_predictions, status, verify
from meddx.score.run import score
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoragePath]:
    import boto3

    spec = importlib.util.spec_from_file_location("seaweed", Path(__file__).parents[1] / "seaweed.py")
    assert spec and spec.loader
    seaweed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seaweed)
    with seaweed.serve(tmp_path_factory.mktemp("s3")) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", seaweed.USER)
        patch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.SECRET)
        patch.setenv("AWS_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="night")
        yield StoragePath.of("s3://night")


def test_killed_resumed_extended_and_proved(tmp_path: Path, bucket: StoragePath) -> None:
    folder = helper.archive(tmp_path / "d", files=2, rows=200, payload=8000, group=50)
    for path in folder.iterdir():
        (bucket / "d" / path.name).replace(path.read_bytes())
    data, out = bucket / "d", bucket / "o"
    assert helper.score_in_child(data, out, failpoint="published:2")[0] == 70  # type: ignore[arg-type]
    assert "units done 2 of 4" in status(out)[1]
    lines: list[str] = []
    books = score(helper.BUNDLE, data, out, options=helper.options(), log=lines.append, bundles=helper.PlainBundles())
    assert lines[0].startswith("units to do 2 of 4") and verify(out)[-1] == books.line
    expected = [pq.read_table(folder / f"f0-{n}.parquet", columns=["case_id"])["case_id"].to_pylist() for n in range(2)]
    assert sorted(read_predictions(out)["case_id"].to_pylist()) == sorted(expected[0] + expected[1])
    (bucket / "d" / "more.parquet").replace((folder / "f0-0.parquet").read_bytes())
    score(helper.BUNDLE, data, out, options=helper.options(), log=lines.append, bundles=helper.PlainBundles())
    assert "units to do 2 of 6, rows 200 of 600; in this process" in lines
    score(helper.BUNDLE, data, out, options=helper.options(), log=lines.append, bundles=helper.PlainBundles())
    assert lines[-1].startswith("nothing to do")
    (bucket / "d" / "more.parquet").replace(b"something else")
    with pytest.raises(OutputError, match=r"1 of 3 files changed since this output was planned: more.parquet"):
        score(helper.BUNDLE, data, out, options=helper.options(), bundles=helper.PlainBundles())
