"""A unit decoded step by step in a child is what normal decoding makes of it; and what that costs in starts of a child."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import poison_helper as poison
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import BundleError, IncompleteError, StorageError
from meddx.score import careful, ledger
from meddx.score.bundles import Bundles
from meddx.score.careful import ALL_BAD, Careful
from meddx.score.child import Nursery
from meddx.score.rows import RowReader
from meddx.score.runner import CannotTravel, Job
from meddx.score.sources import list_files, read_footers
from meddx.score.units import MB, Unit, make_units
from meddx.score.worker import Place, UnitFailed, scorer_of
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


@dataclass
class Work:
    """An archive that is one unit, a nursery, and what scores carefully in it."""

    unit: Unit
    job: Job
    nursery: Nursery
    careful: Careful

    @classmethod
    def of(cls, data: Path, bundles: Bundles | None = None) -> Work:
        root, bundles = StoragePath.of(data), bundles or poison.PoisonBundles()
        stamp = ledger.Stamp(("plan",), "a" * 16, "rules", "token")
        job = Job(helper.BUNDLE, root, root / "out", stamp, helper.options(), ("x",), bundles)
        (unit,) = make_units(read_footers(root, list_files(root))[0], unit_bytes=64 * MB, buckets=1)
        nursery = Nursery(helper.BUNDLE, bundles)
        nursery.job = job
        return cls(unit, job, nursery, Careful(nursery))

    def plainly(self) -> pa.Table:
        return scorer_of(helper.PlainBundle(), self.job.root, self.job.required, self.job.options).score(self.unit)


@pytest.fixture
def works() -> Iterator[list[Work]]:
    made: list[Work] = []
    yield made
    for one in made:
        one.careful.close()


def begin(works: list[Work], data: Path, bundles: Bundles | None = None) -> Work:
    works.append(Work.of(data, bundles))
    return works[-1]


def test_whatever_is_in_the_files_it_comes_out_as_in_normal_work(tmp_path: Path, works: list[Work]) -> None:
    data = poison.archive(tmp_path / "d", {}, files=2, rows=700)
    pq.write_table(pa.table({"case_id": list("abc")}), data / "g0.parquet")  # column_missing
    pq.write_table(pa.table({"case_id": ["a", None, "c"], "x": [0.0, 1.0, None]}), data / "g1.parquet")
    path = data / "f1.parquet"
    chunk = pq.read_metadata(path).row_group(3).column(0)
    content = bytearray(path.read_bytes())
    content[chunk.dictionary_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)
    work = begin(works, data, helper.PlainBundles())
    table = work.careful.score(work.unit)
    assert set(table["error"].drop_null().to_pylist()) == {"column_missing", "page_unreadable", "id_missing", "number_missing"}
    assert table.equals(work.plainly()) and work.nursery.starts == 1


def test_a_row_costs_a_start_for_each_cut_and_one_alone(tmp_path: Path, works: list[Work]) -> None:
    data = poison.archive(tmp_path / "d", {130: "segfault"}, files=1)
    work = begin(works, data)
    table = work.careful.score(work.unit)
    assert poison.poisoned(table) == {poison.case(130): "decoder_crashed"}
    assert work.nursery.starts == 1 + 4  # it dies with the batch, with six rows, with the row, with the row alone
    again = work.careful.score(work.unit, Place(work.unit.id, 0, 100, 200, read=True))
    assert again.equals(table) and work.nursery.starts == 5 + 3  # where normal work died is known
    assert poison.healthy(table).equals(work.plainly().filter(pa.array([row != 130 for row in range(200)])))


def test_its_neighbour_costs_two_starts_more(tmp_path: Path, works: list[Work]) -> None:
    work = begin(works, poison.archive(tmp_path / "d", {110: "end", 111: "end"}, files=1))
    assert len(poison.poisoned(work.careful.score(work.unit))) == 2
    assert work.nursery.starts == 1 + 4 + 2


def test_rows_that_raise_cost_no_start_at_all(tmp_path: Path, works: list[Work]) -> None:
    work = begin(works, poison.archive(tmp_path / "d", dict.fromkeys(range(0, 200, 7), "raise"), files=1))
    assert set(poison.poisoned(work.careful.score(work.unit)).values()) == {"decoder_raised"}
    assert work.nursery.starts == 1


def test_where_no_row_can_be_decoded_the_decoder_is_broken_and_not_the_rows(tmp_path: Path, works: list[Work]) -> None:
    work = begin(works, poison.archive(tmp_path / "d", dict.fromkeys(range(200), "raise"), files=1))
    with pytest.raises(UnitFailed, match=f"none of {ALL_BAD} rows can be decoded: decoder_raised ValueError") as caught:
        work.careful.score(work.unit)
    assert caught.value.kind == "crashed" and "Smith" not in str(caught.value)


class Slow(poison.PoisonBundle):
    def predict(self, rows: pa.Table, **wishes: Any) -> pa.Table:
        time.sleep(0.02 * rows.num_rows)
        return super().predict(rows, **wishes)


class SlowBundles(poison.PoisonBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        return Slow(digest=path.name)


class ColdBundle(poison.PoisonBundle):
    """Its first prediction takes long, as where something is compiled."""

    def predict(self, rows: pa.Table, **wishes: Any) -> pa.Table:
        if not hasattr(self, "warm"):
            time.sleep(1)
            self.warm = True
        return super().predict(rows, **wishes)


class ColdBundles(poison.PoisonBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        return ColdBundle(digest=path.name)


def test_the_first_row_of_a_process_is_not_blamed_for_its_warming_up(
    tmp_path: Path, works: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDDX_ROW_PATIENCE_S", "0.8")
    work = begin(works, poison.archive(tmp_path / "d", {1: "end"}, files=1, rows=3), ColdBundles())
    assert poison.poisoned(work.careful.score(work.unit)) == {poison.case(1): "decoder_crashed"}


def test_twin_without_lenience_healthy_rows_are_called_poison(tmp_path: Path, works: list[Work], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDDX_ROW_PATIENCE_S", "0.8")
    monkeypatch.setattr(careful, "LENIENCE", 1)
    work = begin(works, poison.archive(tmp_path / "d", {}, files=1, rows=1), ColdBundles())
    assert poison.poisoned(work.careful.score(work.unit)) == {poison.case(0): "decoder_overran"}


def test_a_slow_batch_is_cut_and_its_rows_are_healthy(tmp_path: Path, works: list[Work], monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes longer than it may says nothing about any row."""
    monkeypatch.setenv("MEDDX_ROW_PATIENCE_S", "0.3")  # a batch may take 1.5 s, and takes 2; a row takes 0.02
    work = begin(works, poison.archive(tmp_path / "d", {}, files=1, rows=100), SlowBundles())
    assert work.careful.score(work.unit).equals(work.plainly())
    assert work.nursery.starts == 2


class EndsAtOpening(poison.PoisonBundle):
    """Its process ends before a row is read."""

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        os._exit(4)

    @columns.setter
    def columns(self, value: tuple[str, ...]) -> None: ...


class Ends(poison.PoisonBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        return EndsAtOpening(digest=path.name)


def test_a_child_that_dies_before_it_reads_fails_the_unit(tmp_path: Path, works: list[Work]) -> None:
    work = begin(works, poison.archive(tmp_path / "d", {}, files=1), Ends())
    with pytest.raises(UnitFailed, match="died 3 times before it had read a row: exit code 4"):
        work.careful.score(work.unit)
    assert work.nursery.starts == 3


class PagesThatKill(poison.PoisonBundles):
    """In the child, whoever decodes rows 100 and up dies: as of a page that crashes the library."""

    def load(self, path: StoragePath, engine: Any = None) -> Any:
        real = RowReader._batches

        def batches(self: RowReader, group: int, columns: list[str]) -> Any:
            return os._exit(5) if group == 1 else real(self, group, columns)

        RowReader._batches = batches  # type: ignore[method-assign]
        return super().load(path)


def test_pages_that_kill_their_reader_are_rows_without_an_answer(tmp_path: Path, works: list[Work]) -> None:
    work = begin(works, poison.archive(tmp_path / "d", {}, files=1, rows=300), PagesThatKill())
    table = work.careful.score(work.unit)
    assert table["error"].to_pylist() == [None] * 100 + ["decoder_crashed"] * 100 + [None] * 100
    assert table["row"].to_pylist() == list(range(300)) and work.nursery.starts == 3


class Unusable(poison.PoisonBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        raise BundleError("there is no finished bundle here")


class Deadly(poison.PoisonBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        os._exit(6)


def test_a_bundle_that_cannot_be_loaded_is_named(tmp_path: Path, works: list[Work]) -> None:
    data = poison.archive(tmp_path / "d", {}, files=1)
    with pytest.raises(BundleError, match="no finished bundle"):
        begin(works, data, Unusable()).nursery.get()
    with pytest.raises(IncompleteError, match="ended 3 times while it loaded the bundle: exit code 6"):
        begin(works, data, Deadly()).nursery.get()


def test_what_cannot_travel_says_so(tmp_path: Path, works: list[Work]) -> None:
    class Local(poison.PoisonBundles):
        pass

    data = poison.archive(tmp_path / "d", {}, files=1)
    with pytest.raises(CannotTravel):
        begin(works, data, Local()).nursery.get()
    strange = type("Strange", (poison.PoisonBundles,), {"__module__": "poison_helper"})
    poison.Strange = strange  # type: ignore[attr-defined]  # only here: in the child there is no such class
    with pytest.raises(CannotTravel):
        begin(works, data, strange()).nursery.get()


def test_trouble_with_the_storage_is_the_storage(tmp_path: Path, works: list[Work]) -> None:
    work = begin(works, poison.archive(tmp_path / "d", {}, files=1))
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(StorageError, match="no such file"):
        work.careful.score(work.unit)
