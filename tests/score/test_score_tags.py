"""Notes are scored by a bundle that tags words: every row stands in the parts once, with its entities, none, or null."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

sys.path.insert(0, str(Path(__file__).parents[1] / "predict"))

from tags_helper import CLASSES, notes, tags_bundle

from meddx.errors import OutputError
from meddx.predict.bundle import Bundle
from meddx.predict.spans import TYPE
from meddx.score.audit import read_predictions, verify
from meddx.score.run import check, score
from meddx.storage import StoragePath

BAD = {3: None, 10: " ", 25: "word " * 30}  # no text, no word, too many words


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> StoragePath:
    return tags_bundle(StoragePath.of(tmp_path_factory.mktemp("bundle") / "dictionary"))


def cases() -> tuple[pa.Table, list[list[tuple[int, int, int]] | None]]:
    """60 notes, three of which cannot be read."""
    table, entities = notes(60, seed=4)
    texts = [BAD.get(row, text) for row, text in enumerate(table["note"].to_pylist())]
    return table.set_column(2, "note", pa.array(texts)), [None if row in BAD else one for row, one in enumerate(entities)]


def archive(folder: Path, table: pa.Table) -> StoragePath:
    folder.mkdir()
    for number in range(3):
        pq.write_table(table.slice(20 * number, 20), folder / f"part-{number}.parquet", row_group_size=7, write_page_checksum=True)
    return StoragePath.of(folder)


def test_entities_are_read_back_from_the_scored_parts(tmp_path: Path, bundle: StoragePath) -> None:
    table, entities = cases()
    data, out = archive(tmp_path / "d", table), StoragePath.of(tmp_path / "o")
    assert "sample of 20 rows" in "\n".join(check(bundle, data, out, helper.options()))
    books = score(bundle, data, out, options=helper.options(max_rejected=0.1))
    assert (books.read, books.counts.scored, books.counts.quarantined) == (60, 57, 3)
    assert books.counts.reasons == {"input_absent": 1, "text_empty": 1, "text_too_long": 1}
    found = read_predictions(out).sort_by("case_id")
    assert found.schema.field("spans").type == TYPE and "decision" not in found.column_names
    places = [
        None if one is None else [(span["start"], span["end"], CLASSES.index(span["label"])) for span in one]
        for one in found["spans"].to_pylist()
    ]
    assert places == entities and [] in places
    expected = Bundle.load(bundle).predict(table)
    assert found.select(expected.column_names).equals(expected)
    assert "each of 60 rows in 3 files" in "\n".join(verify(out))


def test_new_notes_are_added_and_a_finished_run_does_nothing(tmp_path: Path, bundle: StoragePath) -> None:
    table, _ = cases()
    data, out = archive(tmp_path / "d", table), StoragePath.of(tmp_path / "o")
    rules = helper.options(max_rejected=0.1)
    score(bundle, data, out, options=rules)
    more, entities = notes(8, seed=11)
    names = pa.array([f"later-{row}" for row in range(8)])
    pq.write_table(more.set_column(0, "case_id", names), tmp_path / "d" / "later.parquet", write_page_checksum=True)
    lines: list[str] = []
    books = score(bundle, data, out, options=rules, log=lines.append)
    assert books.read == 68 and any("new files since the plan: 1" in line for line in lines)
    later = {row["case_id"]: row["spans"] for row in read_predictions(out).to_pylist() if row["case_id"].startswith("later")}
    assert [len(later[f"later-{row}"]) for row in range(8)] == [len(one) for one in entities]
    verify(out)
    lines.clear()
    score(bundle, data, out, options=rules, log=lines.append)
    assert lines[0].startswith("nothing to do")


def test_rows_without_an_id_and_lost_columns_have_null_entities(tmp_path: Path, bundle: StoragePath) -> None:
    table, _ = notes(6)
    ids = pa.array([None, *(f"c{row}" for row in range(5))])
    (tmp_path / "d").mkdir()
    pq.write_table(table.set_column(0, "case_id", ids), tmp_path / "d" / "a.parquet")
    pq.write_table(table.drop_columns("note"), tmp_path / "d" / "b.parquet")
    out = StoragePath.of(tmp_path / "o")
    books = score(bundle, StoragePath.of(tmp_path / "d"), out, options=helper.options(max_rejected=1))
    assert books.counts.reasons == {"column_missing": 6, "id_missing": 1}
    found = read_predictions(out)
    assert found["spans"].null_count == 7 and found["spans"].type == TYPE
    verify(out)


def test_a_span_that_was_changed_afterwards_is_seen(tmp_path: Path, bundle: StoragePath) -> None:
    """The page checksums of a part cover the entities: bytes that changed are not read as other entities."""
    table, _ = cases()
    data, out = archive(tmp_path / "d", table), StoragePath.of(tmp_path / "o")
    score(bundle, data, out, options=helper.options(max_rejected=0.1))
    part = next(Path(out.uri).glob("part-*.parquet"))
    with part.open("rb") as stream:
        about = pq.ParquetFile(stream).metadata.row_group(0)
        column = next(about.column(place) for place in range(about.num_columns) if about.column(place).path_in_schema.endswith("start"))
        at = column.data_page_offset + column.total_compressed_size - 1
    content = bytearray(part.read_bytes())
    content[at] ^= 1
    part.write_bytes(content)
    from meddx.errors import StorageError

    with pytest.raises(StorageError, match="damaged"):
        verify(out)


def test_another_bundle_does_not_go_on_in_this_output(tmp_path: Path, bundle: StoragePath) -> None:
    table, _ = cases()
    data, out = archive(tmp_path / "d", table), StoragePath.of(tmp_path / "o")
    score(bundle, data, out, options=helper.options(max_rejected=0.1))
    other = tags_bundle(StoragePath.of(tmp_path / "p"), "prevalence")
    with pytest.raises(OutputError, match="belongs to another bundle"):
        score(other, data, out, options=helper.options(max_rejected=0.1))
