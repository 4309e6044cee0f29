"""meddx.predict.ahead: results in order, each exception at its own place, every item once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from meddx.predict.ahead import ahead


def test_results_come_in_order_and_each_item_is_worked_on_once() -> None:
    seen: list[int] = []

    def work(item: int) -> int:
        seen.append(item)
        return item * item

    assert [later() for later in ahead(work, range(50), 3)] == [one * one for one in range(50)]
    assert seen == list(range(50))
    assert list(ahead(work, [])) == []


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_no_more_than_the_depth_is_made_ahead(depth: int) -> None:
    begun = []
    for place, later in enumerate(ahead(begun.append, range(20), depth)):
        time.sleep(0.005)
        assert len(begun) <= place + 1 + depth
        later()


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            second.set()
        return item

    stream = ahead(work, range(3))
    assert next(stream)() == 0
    assert second.wait(10)  # without a further step of the consumer
    stream.close()


def test_an_exception_of_the_work_comes_out_of_its_own_item_and_the_others_go_on() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    found: list[object] = []
    for later in ahead(work, range(5)):
        try:
            found.append(later())
        except ValueError as error:
            found.append(str(error))
    assert found == [0, 1, "two", 3, 4]


def test_an_exception_of_the_items_comes_out_after_what_was_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("the file ends here")

    found = []
    with pytest.raises(OSError, match="ends here"):
        for later in ahead(lambda item: item, items(), 4):
            found.append(later())
    assert found == [0, 1]


def test_who_stops_early_leaves_no_thread_and_the_items_closed() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    before = threading.active_count()
    stream = ahead(lambda item: item, items())
    assert next(stream)() == 0
    stream.close()
    assert closed == [True] and threading.active_count() == before
