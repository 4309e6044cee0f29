"""The contract through a whole night: warnings in the rows, the footers, the books and the check; quarantine up to exit code 4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx import recipe, record, yamlconf
from meddx.errors import BooksError, OutputError, RecipeError
from meddx.score import ledger
from meddx.score.audit import read_predictions, verify
from meddx.score.bundles import BundleFolders
from meddx.score.options import ScoringOptions
from meddx.score.plan import FOLDER
from meddx.score.planning import owner_of
from meddx.score.run import check, score
from meddx.storage import StoragePath

WRONG = 12  # rows of the archive whose `size` is in other units


@pytest.fixture(scope="module")
def cases() -> pa.Table:
    rng = np.random.default_rng(0)
    n = 400
    ids = [f"c{row:04d}" for row in range(n)]
    sites = rng.choice(["north", "south"], n).tolist()
    return pa.table({"case_id": ids, "patient_id": ids, "size": rng.normal(size=n), "site": sites, "age": np.full(n, 50.0)})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, cases: pa.Table) -> StoragePath:
    return helper.logistic_bundle(StoragePath.of(tmp_path_factory.mktemp("bundle") / "logistic"), cases)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cases: pa.Table) -> StoragePath:
    folder = tmp_path_factory.mktemp("data")
    sizes = cases["size"].to_numpy().copy()
    sizes[:WRONG] = 100.0
    table = cases.set_column(2, "size", pa.array(sizes))
    for number in range(4):
        pq.write_table(table.slice(100 * number, 100), folder / f"part-{number}.parquet", write_page_checksum=True)
    return StoragePath.of(folder)


def test_a_night_goes_on_and_counts_its_warnings(tmp_path: Path, bundle: StoragePath, data: StoragePath) -> None:
    out = StoragePath.of(tmp_path / "o")
    books = score(bundle, data, out, options=helper.options())
    assert books.exit_code == 0 and (books.counts.scored, books.counts.warned) == (400, WRONG)
    assert books.counts.warnings == {"range:size": WRONG} and f"warned {WRONG} (range:size {WRONG})" in books.line
    found = read_predictions(out)
    assert found["warning"].drop_null().to_pylist() == ["range:size"] * WRONG
    made = record.read(out / FOLDER)
    assert made is not None and made["books"]["counts"]["warnings"] == {"range:size": WRONG}
    verify(out)
    again = score(bundle, data, out, options=helper.options())  # from the record
    assert again.counts == books.counts


def test_too_many_in_quarantine_end_in_exit_code_4(tmp_path: Path, bundle: StoragePath, data: StoragePath) -> None:
    out = StoragePath.of(tmp_path / "o")
    with pytest.raises(BooksError, match=r"3.00% was rejected, .* range:size 12") as caught:
        score(bundle, data, out, options=helper.options(contract="quarantine"))
    assert caught.value.exit_code == 4
    found = read_predictions(out)
    assert found["error"].drop_null().to_pylist() == ["range:size"] * WRONG and found["probability"].null_count == WRONG
    enough = score(bundle, data, StoragePath.of(tmp_path / "p"), options=helper.options(contract="quarantine", max_rejected="5%"))
    assert enough.exit_code == 0 and enough.counts.reasons == {"range:size": WRONG} and not enough.counts.warned


def test_without_it_the_same_night_is_called_good(tmp_path: Path, bundle: StoragePath, data: StoragePath) -> None:
    """The twin: rows in other units are scored, and nobody is told."""
    books = score(bundle, data, StoragePath.of(tmp_path / "o"), options=helper.options(contract="ignore"))
    assert books.exit_code == 0 and books.counts.scored == 400 and not books.counts.warned and "warned" not in books.line


def test_the_check_tells_it_before_the_night(tmp_path: Path, bundle: StoragePath, data: StoragePath) -> None:
    said = " ".join(check(bundle, data, StoragePath.of(tmp_path / "o"), helper.options()))
    assert "warned 12 (range:size 12)" in said
    said = " ".join(check(bundle, data, StoragePath.of(tmp_path / "o"), helper.options(contract={"range": "quarantine"})))
    assert "range:size 12" in said and "warned" not in said


def test_another_contract_is_another_output_and_the_usual_one_is_that_of_before(
    tmp_path: Path, bundle: StoragePath, data: StoragePath
) -> None:
    out = StoragePath.of(tmp_path / "o")
    score(bundle, data, out, options=helper.options())
    with pytest.raises(OutputError, match="scoring.contract differs"):
        score(bundle, data, out, options=helper.options(contract="quarantine", max_rejected=1))
    facts = BundleFolders().facts(bundle)
    usual = owner_of(facts, helper.options())
    assert "contract" not in usual.scoring and owner_of(facts, helper.options(contract="warn")) == usual
    assert owner_of(facts, helper.options(contract={"range": "ignore"})).scoring["contract"] == {"range": "ignore"}


def test_parts_of_before_have_no_warnings() -> None:
    old = {"rows": 3, "scored": 2, "quarantined": 1, "outside": 0, "reasons": {"a": 1}}
    both = ledger.Counts(**old) + ledger.Counts(2, 2, warned=2, warnings={"range:x": 2, "...": 1})
    assert both == ledger.Counts(5, 4, 1, 0, {"a": 1}, 2, {"...": 1, "range:x": 2})
    assert ledger.count(pa.table({"status": ["scored"], "error": pa.nulls(1, pa.string())})).warned == 0


def test_each_code_of_a_row_is_counted_and_the_row_once() -> None:
    said = pa.array(["range:x;range:y", None, "range:y"], pa.string())
    found = ledger.count(pa.table({"status": ["scored"] * 3, "error": pa.nulls(3, pa.string()), "warning": said}))
    assert (found.warned, found.warnings) == (2, {"range:x": 1, "range:y": 2}) and found.warning_line == "warned 2 (range:y 2, range:x 1)"


def test_a_key_or_a_word_of_the_page_that_is_misspelt_is_refused_with_the_nearest(tmp_path: Path) -> None:
    for line, nearest in (
        ("contract: {spacng: warn}", "spacing"),
        ("contract: quarantined", "quarantine"),
        ("contract: {bits: warm}", "warn"),
    ):
        with pytest.raises(RecipeError, match=f"did you mean '{nearest}'"):
            yamlconf.build(ScoringOptions, yamlconf.parse(line), "page")


def test_a_page_without_limits_and_wishes_keeps_its_fingerprint(tmp_path: Path) -> None:
    page = (
        "name: x\ndata: cases.csv\ncase: {id: case_id, patient: patient_id}\n"
        "target: {kind: binary, column: sick, positive: ['1'], negative: ['0']}\n"
    )
    usual, limited = "inputs: {table: {}}\n", "inputs: {table: {limits: {age: [0, 120]}}}\n"
    one, quiet = (recipe.load(_page(tmp_path, page + usual + f"scoring: {{contract: {word}}}\n")) for word in ("warn", "ignore"))
    whole, other = (recipe.load(_page(tmp_path, page + inputs)) for inputs in (usual, limited))
    assert whole.fingerprint() == one.fingerprint() and len({whole.fingerprint(), quiet.fingerprint(), other.fingerprint()}) == 3


def _page(folder: Path, text: str) -> Path:
    (folder / "page.yaml").write_text(text)
    return folder / "page.yaml"
