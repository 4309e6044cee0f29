"""`--verify` finds every kind of damage that could be thought of, and says which part or plan it is."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import nights
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import Night

from meddx.errors import BooksError, IncompleteError, MeddxError, OutputError, StorageError
from meddx.score.audit import read_predictions, verify
from meddx.storage import StoragePath


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of two generations; beside it, under `retired`, the part that the second took out."""
    place = tmp_path_factory.mktemp("verify")
    night = Night(StoragePath.of(place), place / "gates").put(*nights.FILES)
    night.run()
    shutil.copytree(place / "o", place / "first")
    night.put("a", version=1)
    night.run(update=True)
    (place / "retired").mkdir()
    for path in (place / "first").glob("part-*"):
        if not (place / "o" / path.name).exists():
            shutil.copy(path, place / "retired")
    return place


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "o", tmp_path / "o")
    return tmp_path / "o"


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*"))


def edit_json(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    page = json.loads(path.read_text())
    change(page)
    path.write_text(json.dumps(page))


def swap_rows(path: Path, columns: tuple[str, ...] = ()) -> None:
    """Row 3 and row 5 change places: as a whole, or in these columns only."""
    table = pq.read_table(path)
    order = list(range(table.num_rows))
    order[3], order[5] = order[5], order[3]
    swapped = table.take(order)
    for name in set(table.column_names) - set(columns or table.column_names):
        swapped = swapped.set_column(table.column_names.index(name), name, table[name])
    pq.write_table(swapped.replace_schema_metadata(table.schema.metadata), path)


def swap_parts(out: Path) -> None:
    one, other = (path.read_bytes() for path in parts(out)[:2])
    parts(out)[0].write_bytes(other)
    parts(out)[1].write_bytes(one)


def rename_column(path: Path) -> None:
    table = pq.read_table(path)
    names = ["p" if name == "probability" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names).replace_schema_metadata(table.schema.metadata), path)


def copy_into(out: Path, name: str) -> None:
    (out / name).parent.mkdir(exist_ok=True)
    shutil.copy(parts(out)[0], out / name)


def from_another_run(out: Path, **changes: object) -> None:
    """A part that another bundle, other rules or another plan made, under a name that this plan knows."""
    table = pq.read_table(parts(out)[0])
    about = json.loads(table.schema.metadata[b"meddx"]) | changes
    pq.write_table(table.replace_schema_metadata({"meddx": json.dumps(about)}), parts(out)[0])


PLAN, LAST, RECORD = "_meddx/plan-0.json", "_meddx/plan-1.json", "_meddx/record.json"
DAMAGE: dict[str, tuple[Callable[[Path], object], type[MeddxError], str]] = {
    "part deleted": (lambda o: parts(o)[0].unlink(), IncompleteError, r"1 of 4 units are not done: [0-9a-f]{16} \(not tried\)"),
    "part doubled as a part": (lambda o: copy_into(o, "part-copy.parquet"), BooksError, "no parts of this plan: part-copy.parquet"),
    "part doubled beside": (lambda o: copy_into(o, "copy.parquet"), BooksError, "no parts of this plan: copy.parquet"),
    "part doubled below": (lambda o: copy_into(o, "old/part.parquet"), BooksError, "no parts of this plan: old/part.parquet"),
    "notes among the parts": (lambda o: (o / "notes.txt").write_text("x"), BooksError, "no parts of this plan: notes.txt"),
    "rows swapped": (lambda o: swap_rows(parts(o)[0]), BooksError, "rows are not as planned"),
    "row numbers swapped": (lambda o: swap_rows(parts(o)[0], ("row",)), BooksError, "rows are not as planned"),
    "parts swapped": (swap_parts, OutputError, "does not belong"),
    "part cut short": (lambda o: parts(o)[0].write_bytes(parts(o)[0].read_bytes()[:-9]), StorageError, "damaged"),
    "part empty": (lambda o: parts(o)[0].write_bytes(b""), StorageError, "damaged"),
    "column renamed": (lambda o: rename_column(parts(o)[0]), BooksError, "columns are not as published"),
    "other bundle": (lambda o: from_another_run(o, bundle="b" * 16), OutputError, "does not belong"),
    "other rules": (lambda o: from_another_run(o, rules="b" * 16), OutputError, "does not belong"),
    "other plan": (lambda o: from_another_run(o, plans=["b" * 16]), OutputError, "does not belong"),
    "other later plan": (
        lambda o: from_another_run(o, plans=[json.loads((o / LAST).read_text())["previous"], "b"]),
        OutputError,
        "does not",
    ),
    "other versions": (lambda o: from_another_run(o, sources=[["v", 0, 50]]), OutputError, "does not belong"),
    "plan changed": (lambda o: edit_json(o / PLAN, lambda p: p.update(buckets=7)), StorageError, "do not belong together"),
    "last plan changed": (lambda o: edit_json(o / LAST, lambda p: p.update(buckets=7)), MeddxError, "does not belong|other plans"),
    "last plan unretired": (lambda o: edit_json(o / LAST, lambda p: p.update(retired=[])), OutputError, "does not belong"),
    "plan torn": (lambda o: (o / PLAN).write_text("{"), StorageError, "the plan is damaged"),
    "first plan gone": (lambda o: (o / PLAN).unlink(), StorageError, "do not belong together"),
    "last plan gone": (lambda o: (o / LAST).unlink(), MeddxError, "no parts of this plan|other plans"),
    "record of other plans": (lambda o: edit_json(o / RECORD, lambda p: p.update(plans=["b"])), BooksError, "names other plans"),
    "record of other counts": (
        lambda o: edit_json(o / RECORD, lambda p: p["books"]["counts"].update(scored=1)),  # type: ignore[attr-defined, index]
        BooksError,
        "counts are not those of the parts",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_is_found(out: Path, damage: str) -> None:
    assert verify(StoragePath.of(out))
    do, kind, said = DAMAGE[damage]
    do(out)
    with pytest.raises(kind, match=said):
        verify(StoragePath.of(out))


def test_a_retired_part_that_stands_is_not_counted_and_wants_another_run(finished: Path, out: Path) -> None:
    expected = read_predictions(StoragePath.of(out))
    shutil.copytree(finished / "retired", out, dirs_exist_ok=True)
    with pytest.raises(IncompleteError, match="1 parts of units that left the plan still stand") as caught:
        verify(StoragePath.of(out))
    assert caught.value.next_step == "run the same command again"
    assert read_predictions(StoragePath.of(out)).equals(expected)


def test_a_foreign_part_stops_a_run_and_is_left_alone(finished: Path, out: Path) -> None:
    night = Night(StoragePath.of(finished), finished)
    shutil.copytree(out, finished / "other" / "o")
    night.place, shared = StoragePath.of(finished / "other"), finished / "other" / "d"
    shared.symlink_to(finished / "d")
    copy_into(finished / "other" / "o", "part-copy.parquet")
    with pytest.raises(OutputError, match="does not belong to this output's plan") as caught:
        night.run()
    assert caught.value.where.endswith("part-copy.parquet") and (finished / "other/o/part-copy.parquet").exists()
    shutil.rmtree(finished / "other")


@pytest.mark.slow
def test_a_flipped_bit_is_found_or_changes_nothing(out: Path) -> None:
    """Pages have checksums, and what the footer says of the columns is said twice."""
    expected, path = read_predictions(StoragePath.of(out)), parts(out)[1]
    data, rng, found = path.read_bytes(), random.Random(0), 0
    for position in range(0, len(data), 17):
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            verify(StoragePath.of(out))
        except (StorageError, BooksError, OutputError):
            found += 1
        else:
            assert read_predictions(StoragePath.of(out)).equals(expected), position
    assert found > len(data) / 17 / 2


def test_other_columns_are_the_limit(out: Path) -> None:
    """A whole part written anew with valid checksums and other answers is not seen: that needs the bundle and the sources."""
    swap_rows(parts(out)[0], ("probability",))
    assert verify(StoragePath.of(out))
    assert pa.types.is_floating(pq.read_schema(parts(out)[0]).field("probability").type)
