"""How a part is written: what few words say is coded, and no id of a patient stands in a footer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import scoring_helper as helper

from meddx.predict import spans
from meddx.score import ledger
from meddx.score.run import score
from meddx.storage import StoragePath


def test_words_are_coded_and_ids_are_in_no_footer(tmp_path: Path) -> None:
    data = helper.archive(tmp_path / "d", files=1, rows=300)
    score(helper.BUNDLE, StoragePath.of(data), StoragePath.of(tmp_path / "o"), options=helper.options(), bundles=helper.PlainBundles())
    (part,) = (tmp_path / "o").glob("part-*.parquet")
    group = pq.read_metadata(part).row_group(0)
    about = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    coded = {name for name, one in about.items() if "RLE_DICTIONARY" in one.encodings}
    assert coded == {"status", "error", "decision", "bundle", "unit"}
    assert {name for name, one in about.items() if not one.is_stats_set} == {"case_id", "patient_id"}
    whole = part.read_bytes()
    footer = whole[-8 - int.from_bytes(whole[-8:-4], "little") :]
    assert b"p149" not in footer and b"0-0-00299" not in footer


def test_labels_of_tags_are_coded() -> None:
    table = pa.table({"status": ["scored"], "spans": pa.array([[{"start": 0, "end": 1, "label": "a", "score": 0.5}]], spans.TYPE)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, use_dictionary=ledger._words(table.schema))
    group = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0)
    coded = [one.path_in_schema for place in range(5) if "RLE_DICTIONARY" in (one := group.column(place)).encodings]
    assert coded == ["status", "spans.list.element.label"]
