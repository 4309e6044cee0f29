from __future__ import annotations

import sys

import pytest

from meddx.train.network_interface import interface_of


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel")
def test_loopback_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"


def test_an_address_that_nobody_has() -> None:
    assert interface_of("203.0.113.7") is None
