"""The same kills with archive and output on a real S3 server."""

from __future__ import annotations

from collections.abc import Callable

import nights
import pytest

from meddx import failpoints

pytestmark = pytest.mark.slow

ON_A_FOLDER_ONLY = ("temp_written",)  # one conditional PUT has no temporary file


@pytest.mark.parametrize("point", [*(one for one in failpoints.NAMES if one not in ON_A_FOLDER_ONLY), "published:3"])
def test_killed_and_resumed_is_as_if_never_killed(night_on_s3: Callable[[], nights.Night], point: str) -> None:
    nights.killed_and_resumed(night_on_s3(), point)
