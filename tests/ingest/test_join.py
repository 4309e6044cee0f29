"""Joined sources: the rows of each case, none from its future, every row in the books, and a cause when nothing meets."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meddx.errors import BooksError, DataError, LeakError, OutputError
from meddx.ingest import join as joining
from meddx.ingest import joins
from meddx.ingest import spool as spooling
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.run import describe, ingest
from meddx.storage import StoragePath

STAYS = {"id": "id", "patient": "@case", "predict_at": "at", "zone": "UTC"}
HOURS = {"id": "id", "patient": "@case", "predict_at": "48h"}


def test_rows_come_in_time_order_with_hours_before_the_decision(csv_file, make):
    cases = csv_file("id,at,age\n01,2024-01-03 12:00,50\n02,2024-01-03 12:00,60\n03,,70\n")
    labs = csv_file(
        "id,t,test,value\n01,2024-01-03 12:00,crp,3\n01,2024-01-03 11:00,crp,2\n01,2024-01-03 11:00,na,140\n01,2024-01-03 12:01,crp,99\n"
        "03,2024-01-01 10:00,crp,5\n01,,crp,7\n9,2024-01-01 10:00,crp,8\n",
        name="labs.csv",
    )
    made = make({"path": cases}, STAYS, joined={"labs": {"path": labs, "join": "id", "time": "t"}})
    assert made.column("labs") == [
        [
            {"@time": -1.0, "test": "crp", "value": 2.0},
            {"@time": -1.0, "test": "na", "value": 140.0},
            {"@time": 0.0, "test": "crp", "value": 3.0},
        ],
        [],
        [],
    ]
    block = made.record["joined"]["labs"]
    expected = {
        "read": 7, "rejected": 0, "without_time": 1, "rows": 6, "rows_matched": 5, "rows_unmatched": 1, "cases": 3, "matched": 2,
        "unmatched": 1, "several": 1, "most": 3, "pairs": 5, "too_late": 1, "undecided": 1, "joined": 3,
    }  # fmt: skip
    assert {key: block[key] for key in expected} == expected
    told = "\n".join(describe(made.record))
    assert "labs: 2 of 3 cases matched, 1 unmatched, 1 with several rows (at most 3); 1 of 6 source rows match no case" in told
    assert "rows later than predict_at 1" in told
    assert made.record["columns"]["labs"].startswith("list<")
    assert set(made.record["inputs"]) == {"source", "labs"}


def test_a_value_after_predict_at_changes_nothing(csv_file, make):
    cases = csv_file("id,at\n1,2024-01-03 12:00\n2,2024-01-04 12:00\n")
    rows = "id,t,v\n1,2024-01-03 11:00,1\n2,2024-01-04 11:00,2\n"
    late = "1,2024-01-03 12:00:00.000001,666\n2,2030-01-01 00:00,667\n"
    options = {"join": "id", "time": "t"}
    before = make({"path": cases}, STAYS, joined={"labs": {**options, "path": csv_file(rows, name="a.csv")}}, out="a")
    after = make({"path": cases}, STAYS, joined={"labs": {**options, "path": csv_file(rows + late, name="b.csv")}}, out="b")
    assert before.record["digest"] == after.record["digest"]
    assert after.record["joined"]["labs"]["too_late"] == 2
    twin = make(
        {"path": cases}, STAYS, joined={"labs": {**options, "path": csv_file(rows + "1,2024-01-03 12:00:00,666\n", name="c.csv")}}, out="c"
    )
    assert twin.record["digest"] != before.record["digest"]  # at the very instant it is known


def test_numbers_since_the_cases_own_zero_and_a_window(csv_file, make):
    cases = csv_file("id,x\n1,1\n2,2\n")
    events = csv_file("rec,minute,v\n1,0,a\n1,1440,b\n1,2880,c\n1,2881,d\n2,60,e\n2,,f\n2,soon,g\n,3,h\n", name="events.csv")
    source = {"path": events, "join": {"rec": "id"}, "time": "minute", "time_unit": "min"}
    made = make({"path": cases}, HOURS, joined={"events": source})
    assert made.column("events") == [
        [{"@time": -48.0, "v": "a"}, {"@time": -24.0, "v": "b"}, {"@time": 0.0, "v": "c"}], [{"@time": -47.0, "v": "e"}],
    ]  # fmt: skip
    assert sorted((row["source"], row["row"], row["reason"]) for row in made.quarantine) == [
        ("events/events.csv", 7, "number_unreadable"), ("events/events.csv", 8, "join_key_missing"),
    ]  # fmt: skip
    assert "events: quarantined as join_key_missing: 1" in describe(made.record)
    assert made.table.column_names == ["case_id", "patient_id", "x", "events"]  # a duration is no column
    cut = make({"path": cases}, HOURS, joined={"events": {**source, "window": ["-24h", "0h"]}}, out="cut")
    assert [[one["v"] for one in rows] for rows in cut.column("events")] == [["b", "c"], []]
    assert cut.record["joined"]["events"]["outside_window"] == 2


def test_a_bare_date_is_known_at_its_end_and_unreadable_times_are_put_aside(csv_file, make):
    cases = csv_file("id,at\n1,2024-01-03 23:59\n2,2024-01-04 00:00\n")
    labs = csv_file("id,t,v\n1,2024-01-03,1\n2,2024-01-03,2\n2,03.01.2024 9:00,3\n2,31.12.2023,4\n2,soon,5\n", name="l.csv")
    made = make({"path": cases}, STAYS, joined={"labs": {"path": labs, "join": "id", "time": "t"}})
    first, second = made.column("labs")
    assert first == []
    assert [one["v"] for one in second] == [4, 3, 2]
    assert second[-1]["@time"] == pytest.approx(-1e-6 / 3600, rel=1e-3)
    assert [(row["source"], row["row"], row["reason"]) for row in made.quarantine] == [("labs/l.csv", 5, "time_unreadable")]
    assert any("count as known at the end of the day" in line for line in describe(made.record))


def test_day_and_month_left_open_are_refused(csv_file, make):
    cases, labs = csv_file("id,at\n1,2024-06-03 12:00\n"), csv_file("id,t,v\n1,03/04/2024 10:00,1\n", name="l.csv")
    with pytest.raises(DataError, match="no value tells day from month"):
        make({"path": cases}, STAYS, joined={"labs": {"path": labs, "join": "id", "time": "t"}})
    made = make({"path": cases}, STAYS, joined={"labs": {"path": labs, "join": "id", "time": "t", "dates": {"t": "mdy"}}})
    assert made.column("labs")[0][0]["@time"] == (datetime(2024, 3, 4, 10) - datetime(2024, 6, 3, 12)).total_seconds() / 3600


def test_stamps_without_a_zone_and_hours_that_clocks_show_twice_or_never(csv_file, make):
    cases = csv_file("id,at\n1,2024-12-01T00:00Z\n")
    labs = csv_file("id,t,v\n1,2024-10-27 02:30,1\n1,2024-03-31 02:30,2\n1,2024-07-01 12:00,3\n1,2024-07-01 12:00+00:00,4\n", name="l.csv")
    case = {"id": "id", "patient": "@case", "predict_at": "at"}
    source = {"path": labs, "join": "id", "time": "t"}
    with pytest.raises(DataError, match="have no time zone"):
        make({"path": cases}, case, joined={"labs": source})
    made = make({"path": cases}, case, joined={"labs": {**source, "zone": "Europe/Berlin"}})
    zero = datetime(2024, 12, 1, tzinfo=UTC)
    known = {1: (10, 27, 1, 30), 2: (3, 31, 1, 0), 3: (7, 1, 10, 0), 4: (7, 1, 12, 0)}  # UTC: the second 02:30, the end of the gap
    for one in made.column("labs")[0]:
        assert one["@time"] == (datetime(2024, *known[int(one["v"])], tzinfo=UTC) - zero).total_seconds() / 3600
    assert made.record["joined"]["labs"]["facts"]["doubtful_times"] == {"ambiguous": 1, "nonexistent": 1, "unreadable": 0}
    told = "\n".join(describe(made.record))
    assert "show twice" in told and "leave out" in told
    with pytest.raises(DataError, match="time zone 'Europe/Berlim' is not known"):
        make({"path": cases}, case, joined={"labs": {**source, "zone": "Europe/Berlim"}}, out="b")


@pytest.mark.parametrize(
    ("ours", "theirs", "cause"),
    [
        (["0012", "0013"], ["12", "13"], "leading zeros, such as 0012 and 12: without that 2"),
        (["12", "13"], ["12.0", "13.0"], "a decimal part, such as 12.0 and 12"),
        (["ab1", "ab2"], ["AB1", "AB2"], "upper and lower case"),
        (["0ab1"], ["AB1.0"], "several things at once"),
        (["123"], ["x-99"], r"a key there: 1 letter, 1 sign, 2 digits; of a case: 3 digits"),
    ],
)
def test_no_match_at_all_names_the_likely_cause(csv_file, make, tmp_path, ours, theirs, cause):
    cases = csv_file("id,x\n" + "".join(f"{one},1\n" for one in ours))
    labs = csv_file("id,v\n" + "".join(f"{one},1\n" for one in theirs), name="l.csv")
    with pytest.raises(DataError, match=cause) as error:
        make({"path": cases}, joined={"labs": {"path": labs, "join": "id"}})
    assert error.value.exit_code == 3
    told = (error.value.what + error.value.next_step).replace("0012 and 12", "").replace("12.0 and 12", "")
    assert not any(key in told for key in [*ours, *theirs])
    assert not (tmp_path / "out/record.json").exists()


def test_surrounding_spaces_are_a_cause_too():
    from meddx.ingest.keys import cause_of_no_match

    found = cause_of_no_match(["a ", "b "], ["a", "b"])
    assert found is not None and found[0].startswith("surrounding spaces")


def test_parquet_numbers_meet_their_text(csv_file, make, tmp_path):
    table = pa.table({"rec": pa.array([12.0, 12.0, 7.5]), "v": [1, 2, 3], "day": [date(2024, 1, 1), date(2024, 1, 2), None]})
    pq.write_table(table, tmp_path / "l.parquet")
    made = make({"path": csv_file("id,x\n12,1\n")}, joined={"labs": {"path": tmp_path / "l.parquet", "join": {"rec": "id"}, "keep": ["v"]}})
    assert made.column("labs") == [[{"v": 1.0}, {"v": 2.0}]]
    stamped = {"path": tmp_path / "l.parquet", "join": {"rec": "id"}, "time": "day"}
    made = make({"path": csv_file("id,at\n12,2024-01-02 12:00\n")}, STAYS, joined={"labs": stamped}, out="b")
    assert [[one["v"] for one in rows] for rows in made.column("labs")] == [[1.0]]


def test_history_from_other_rows_needs_a_time(csv_file, make):
    cases = csv_file("id,who,at\n1,a,2024-01-02 12:00\n2,a,2024-01-04 12:00\n3,b,2024-01-04 12:00\n")
    visits = csv_file("who,t,v\na,2024-01-01 10:00,1\na,2024-01-03 10:00,2\n", name="v.csv")
    case = {**STAYS, "patient": "who"}
    with pytest.raises(LeakError, match="declare `time`"):
        make({"path": cases}, case, joined={"visits": {"path": visits, "join": "who"}})
    made = make({"path": cases}, case, joined={"visits": {"path": visits, "join": "who", "time": "t"}})
    assert [[one["v"] for one in rows] for rows in made.column("visits")] == [[1], [1, 2], []]
    assert made.record["joined"]["visits"]["too_late"] == 1


def test_keys_of_several_columns(csv_file, make):
    cases = csv_file("id,site,at\n1,a,x\n2,b,y\n")
    rows = csv_file("n,s,v\n1,a,1\n1,b,2\n2,b,3\n,b,4\n", name="r.csv")
    case = {"id": "id", "patient": "@case"}
    made = make({"path": cases}, case, joined={"rows": {"path": rows, "join": {"n": "id", "s": "site"}}})
    assert made.column("rows") == [[{"v": 1.0}], [{"v": 3.0}]]
    assert made.record["joined"]["rows"]["rows_unmatched"] == 1


def test_a_long_table_made_wide(csv_file, make):
    cases = csv_file("id,x\n1,1\n2,2\n")
    long = csv_file(
        "id,h,name,value\n1,1,HR,80\n1,1,BP,120\n1,1,HR,81\n1,2,HR,82\n1,0,Weight,70\n2,5,HR,high\n2,5,BP,-1\n2,6,GCS,x\n2,6,HR,90\n",
        name="l.csv",
    )
    pivot = {"variable": "name", "value": "value", "only": ["HR", "BP"]}
    source = {"path": long, "join": "id", "time": "h", "time_unit": "h", "pivot": pivot, "missing_in": {"BP": "-1"}}
    made = make({"path": cases}, HOURS, joined={"vitals": source})
    assert made.column("vitals") == [
        [{"@time": -47.0, "HR": 81.0, "BP": 120.0}, {"@time": -46.0, "HR": 82.0, "BP": None}],
        [{"@time": -43.0, "HR": None, "BP": None}, {"@time": -42.0, "HR": 90.0, "BP": None}],
    ]
    assert made.record["joined"]["vitals"]["other_variables"] == 2
    assert [(row["row"], row["reason"], row["detail"]) for row in made.quarantine] == [(6, "value_unreadable", "variable HR")]


def test_the_name_of_the_file_as_a_column(tmp_path, csv_file, make):
    csv_file("id,x\n1,1\n", name="Outcomes-a.csv")
    csv_file("id,x\n2,1\n", name="Outcomes-b.csv")
    pq.write_table(pa.table({"id": ["1", "2"], "v": [1, 2]}), tmp_path / "s.parquet")
    source = {"path": tmp_path / "s.parquet", "join": "id", "file_as": "origin"}
    made = make({"path": tmp_path / "Outcomes-?.csv", "file_as": "file"}, joined={"s": source})
    assert made.column("file") == ["Outcomes-a.csv", "Outcomes-b.csv"]
    assert made.column("s")[0] == [{"v": 1.0, "origin": "s.parquet"}]
    with pytest.raises(DataError, match="'x' is a column already"):
        make({"path": tmp_path / "Outcomes-?.csv", "file_as": "x"}, out="b")


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("x", {"join": "id"}, "name of a column"),
        ("case_id", {"join": "id"}, "cannot be named"),
        ("source", {"join": "id"}, "cannot be named"),
        ("labs", {}, "how its rows find their case"),
        ("labs", {"join": "idd"}, "no column 'idd'"),
        ("labs", {"join": {"id": "nope", "v": "id"}}, "no column 'nope'"),
        ("labs", {"join": "id", "keep": ["w"]}, "no column 'w'"),
        ("labs", {"join": "id", "keep": ["id"]}, "no column is kept"),
        ("labs", {"join": "id", "time": "when", "time_unit": "h"}, "no duration"),
        ("labs", {"join": "id", "time": "when"}, "names no column"),
    ],
)
def test_joins_that_cannot_be_meant_are_refused(csv_file, make, tmp_path, name, source, message):
    cases, labs = csv_file("id,x\n1,1\n"), csv_file("id,v\n1,1\n", name="l.csv")
    with pytest.raises(DataError, match=message):
        make({"path": cases}, joined={name: {"path": labs, **source}})
    assert not (tmp_path / "out/data").exists()


def test_examples_are_pseudonyms_and_nothing_else_of_a_key_comes_out(csv_file, make):
    cases = csv_file("id,x\n" + "".join(f"SECRET{i},1\n" for i in range(20)))
    labs = csv_file("id,v\n" + "".join(f"SECRET{i},1\nSECRET{i},2\nHIDDEN{i},1\n" for i in range(9)), name="l.csv")
    made = make({"path": cases}, joined={"labs": {"path": labs, "join": "id"}})
    examples = made.record["joined"]["labs"]["examples"]
    assert {key: len(found) for key, found in examples.items()} == {"unmatched": 5, "several": 5, "without_case": 5}
    assert examples["without_case"][0].endswith("(6 letters, 1 digit)")
    told = json.dumps(made.record) + "\n".join(describe(made.record))
    assert "SECRET" not in told and "HIDDEN" not in told


def test_reuse_and_change_of_a_joined_source(csv_file, make):
    cases, labs = csv_file("id,x\n1,1\n"), csv_file("id,v\n1,1\n", name="l.csv")
    joined = {"labs": {"path": labs, "join": "id"}}
    make({"path": cases}, joined=joined)
    assert make({"path": cases}, joined=joined).record["reused"] is True
    with pytest.raises(OutputError, match="another way"):
        make({"path": cases}, joined={"labs": {**joined["labs"], "keep": ["v"]}})
    csv_file("id,v\n1,2\n", name="l.csv")
    with pytest.raises(OutputError, match="labs has changed"):
        make({"path": cases}, joined=joined)
    with pytest.raises(DataError, match="'labs' changed while"):
        make({"path": cases}, joined=joined, force=True, progress=lambda _: csv_file("id,v\n1,2\n1,3\n", name="l.csv") and None)


def test_doubtful_hours_of_predict_at_are_reported(csv_file, make):
    case = {"id": "id", "patient": "@case", "predict_at": "at", "zone": "Europe/Berlin"}
    made = make({"path": csv_file("id,at\n1,2024-10-27 02:30\n2,2024-03-31 02:30\n3,2024-07-01 12:00\n4,\n")}, case)
    assert made.column("predict_at")[0] == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)  # the first: what came between is not known yet
    assert [note for note in made.record["notes"] if note.startswith("predict_at")] == [
        "predict_at: 1 stamps lie in an hour that clocks in Europe/Berlin show twice: the first is taken",
        "predict_at: 1 stamps lie in an hour that clocks in Europe/Berlin leave out: the end of the gap is taken",
    ]


@pytest.mark.parametrize("more", [{"join": "id"}, {"keep": ["x"]}, {"pivot": {"variable": "x", "value": "x", "only": ["a"]}}])
def test_keys_of_joined_sources_are_refused_on_the_cases(csv_file, make, more):
    with pytest.raises(DataError, match="is for a joined source"):
        make({"path": csv_file("id,x\n1,1\n"), **more})


def test_a_lost_row_is_found_by_the_books_of_the_join(csv_file, make, monkeypatch):
    cases, labs = csv_file("id,at\n1,2024-01-01 12:00\n"), csv_file("id,t,v\n1,2024-01-01 11:00,1\n", name="l.csv")
    whole = joining.Joined._in_time
    monkeypatch.setattr(joining.Joined, "_in_time", lambda *args: (whole(*args)[0], whole(*args)[1] & False))
    with pytest.raises(BooksError, match="pairs 1 is not"):
        make({"path": cases}, STAYS, joined={"labs": {"path": labs, "join": "id", "time": "t"}})


def test_pictures_join_too(make, csv_file, tmp_path):
    import cv2

    (tmp_path / "films").mkdir()
    for name in ("a1", "a2", "b1"):
        cv2.imwrite(str(tmp_path / f"films/{name}.png"), np.zeros((4, 4), np.uint8))
    films = {"path": tmp_path / "films", "join": {"file_stem": "id"}, "keep": ["image"]}
    made = make({"path": csv_file("id,x\na1,1\nb1,2\nc,3\n")}, joined={"films": films})
    assert [len(rows) for rows in made.column("films")] == [1, 1, 0]
    assert made.column("films")[0][0]["image"].startswith(b"\x89PNG")


keys = st.sampled_from(["1", "01", "1.0", "a", "A", "ä", "12", "x y"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cases=st.lists(keys, min_size=1, unique=True),
    rows=st.lists(st.tuples(keys, st.one_of(st.none(), st.integers(-5, 60)), st.integers(0, 99)), min_size=1),
    batch=st.sampled_from([1, 3, 1 << 18]),
    piece=st.sampled_from([1, 64 << 20]),
)
def test_the_join_is_the_join_of_a_dict(tmp_path_factory, cases, rows, batch, piece):
    """Against the naive way, whatever the sizes of batches and pieces."""
    folder = tmp_path_factory.mktemp("join")
    (folder / "c.csv").write_text("id,n\n" + "".join(f"{key},{i}\n" for i, key in enumerate(cases)))
    table = pa.table(
        {"id": [r[0] for r in rows], "t": pa.array([r[1] for r in rows], pa.int32()), "v": pa.array([r[2] for r in rows], pa.int32())}
    )
    pq.write_table(table, folder / "r.parquet", row_group_size=4)
    by_key = defaultdict(list)
    for key, hour, value in rows:
        if hour is not None:
            by_key[key].append((hour, value))
    want = [[{"@time": t - 48.0, "v": float(v)} for t, v in sorted(by_key[key], key=lambda one: one[0]) if t <= 48] for key in cases]
    source = SourceOptions(path=str(folder / "r.parquet"), join={"id": "id"}, time="t", time_unit="h")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooling, "BATCH_ROWS", batch)
        patch.setattr(joins, "PIECE_BYTES", piece)
        arguments = (SourceOptions(path=str(folder / "c.csv")), CaseOptions(**HOURS), (), StoragePath.of(folder / "out"))
        if all(hour is None for _, hour, _ in rows):
            with pytest.raises(DataError, match="readable time"):
                ingest(*arguments, joined={"rows": source})
            return
        if not set(cases) & {r[0] for r in rows}:
            with pytest.raises(DataError, match="no case has a row"):
                ingest(*arguments, joined={"rows": source})
            return
        done = ingest(*arguments, joined={"rows": source})
    assert pq.read_table(folder / "out/data").column("rows").to_pylist() == want
    assert done["joined"]["rows"]["joined"] == sum(map(len, want))
