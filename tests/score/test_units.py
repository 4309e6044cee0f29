"""Units are the same for the same files, whatever the order, and cover each row once."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.score import units
from meddx.score.sources import SourceFile
from meddx.score.units import MB, count_buckets, make_tasks, make_units


def file(path: str, *groups: tuple[int, int], version: str = "v1") -> SourceFile:
    return SourceFile(path, version, sum(size for _, size in groups), tuple(groups), ("case_id",))


def pieces_of(made: list[units.Unit]) -> dict[str, list[tuple[int, int]]]:
    found = defaultdict(list)
    for unit in made:
        for piece in unit.pieces:
            found[piece.path].append((piece.start, piece.stop))
    return {path: sorted(ranges) for path, ranges in found.items()}


groups = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 90 * MB)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abc/", min_size=1, max_size=6), groups, max_size=6), st.integers(1, 100), st.integers(1, 5))
def test_every_row_of_every_file_stands_in_one_unit(listing: dict[str, list[tuple[int, int]]], unit_mb: int, buckets: int) -> None:
    files = [file(path, *some) for path, some in listing.items()]
    made = make_units(files, unit_bytes=unit_mb * MB, buckets=buckets)
    assert len({unit.id for unit in made}) == len(made)
    found = pieces_of(made)
    for one in files:
        at = 0
        for start, stop in found.get(one.path, []):
            assert start == at and stop > start
            at = stop
        assert at == one.rows
    assert make_units(files[::-1], unit_bytes=unit_mb * MB, buckets=buckets) == made


def test_a_new_small_file_touches_one_unit() -> None:
    files = [file(f"f{n}", (10, MB)) for n in range(40)]
    buckets = count_buckets(files, 8 * MB)
    before = {unit.id for unit in make_units(files, unit_bytes=8 * MB, buckets=buckets)}
    after = make_units([*files, file("new", (10, 100))], unit_bytes=8 * MB, buckets=buckets)
    assert buckets == 5
    assert len({unit.id for unit in after} - before) == 1
    alone = make_units([file("new", (10, 100))], unit_bytes=8 * MB, buckets=buckets)
    assert len(alone) == 1 and alone[0].id not in before


def test_a_bucket_that_later_nights_overfill_is_more_than_one_unit() -> None:
    made = make_units([file(f"f{n}", (10, MB // 2)) for n in range(40)], unit_bytes=MB, buckets=1)
    assert len(made) == 10 and max(unit.weight for unit in made) == 2 * MB


def test_a_large_file_is_cut_between_row_groups() -> None:
    made = make_units([file("a", *[(100, 20 * MB)] * 7)], unit_bytes=48 * MB, buckets=1)
    assert pieces_of(made) == {"a": [(0, 200), (200, 400), (400, 600), (600, 700)]}
    assert {unit.stream for unit in made} == {""}


def test_a_row_group_too_large_to_hold_is_one_task_of_fixed_ranges() -> None:
    made = make_units([file("a", (50, MB), (1000, 130 * MB), (50, MB))], unit_bytes=48 * MB, buckets=1)
    assert pieces_of(made) == {"a": [(0, 50), (50, 420), (420, 790), (790, 1050), (1050, 1100)]}
    tasks = make_tasks(made, done=(), token="t")
    assert sorted(map(len, tasks)) == [1, 1, 3]
    stream = max(tasks, key=len)
    assert [unit.pieces[0].start for unit in stream] == [50, 420, 790]
    left = max(make_tasks(made, done={stream[1].id}, token="t"), key=len)
    assert [unit.pieces[0].start for unit in left] == [50, 790]


def test_many_rows_with_few_bytes_are_cut_too() -> None:
    made = make_units([file("a", *[(1_000_000, 100)] * 4)], unit_bytes=48 * MB, buckets=1)
    assert len(made) == 4


def test_the_id_follows_the_version_and_not_the_machine() -> None:
    one, other = (make_units([file("a", (10, 10), version=v)], unit_bytes=MB, buckets=1)[0].id for v in ("v1", "v2"))
    assert one == "6350be792905236c"  # frozen: a part published on one machine is found on another
    assert other != one


def test_the_largest_go_first_and_jobs_order_equal_ones_differently() -> None:
    files = [file(f"f{n}", (10, 64 * MB)) for n in range(30)] + [file("small", (10, 10)), file("huge", (10, 600 * MB))]
    made = make_units(files, unit_bytes=48 * MB, buckets=1)
    mine, yours = (make_tasks(made, (), token) for token in ("mine", "yours"))
    for tasks in (mine, yours):
        assert tasks[0][0].pieces[0].path == "huge" and tasks[-1][0].pieces[0].path == "small"
    assert {task[0].id for task in mine} == {task[0].id for task in yours} and mine != yours
    assert make_tasks(made, (), "mine") == mine
