import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from meddx.errors import RecipeError
from meddx.synth.table import COLUMNS, DRIVERS, LABS, WARDS, make, probability

pytestmark = pytest.mark.slow


def lines_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def numbers_of(lines: list[list[str]], names: list[str]) -> np.ndarray:
    places = [COLUMNS.index(name) for name in names]
    return np.array([[np.nan if line[place] == "?" else float(line[place]) for place in places] for line in lines[1:]])


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "stays"
    make(1500, folder, seed=0, broken=0)
    return folder


@pytest.mark.parametrize("seed", range(5))
def test_bayes_auroc_is_in_range_for_any_seed(tmp_path: Path, seed: int) -> None:
    assert 0.85 <= make(80, tmp_path / "small", seed=seed)["bayes_auroc"] <= 0.93
    assert 0.87 <= make(1000, tmp_path / "large", seed=seed)["bayes_auroc"] <= 0.91


def test_codes_missing_values_and_ids_are_as_archives_write_them(stays: Path) -> None:
    lines = lines_of(stays / "cases.csv")
    assert tuple(lines[0]) == COLUMNS
    body = np.array(lines[1:])
    assert set(body[:, COLUMNS.index("ward")]) == set(WARDS) and "007" in WARDS
    assert all(len(one) == 8 and one[0] == "0" for one in body[:, 0]) and len(set(body[:, 0])) == len(body)
    assert 1.3 < len(body) / len(set(body[:, 1])) < 1.7
    gone = {site: np.mean(body[body[:, 2] == site][:, 6:15] == "?") for site in ("east", "west")}
    assert 0.02 < gone["east"] < 0.05 < gone["west"] < 0.12
    assert set(body[:, -1]) == {"worse", "stable"}


def test_the_truth_stands_apart_and_orders_the_labels_best(stays: Path) -> None:
    truth, lines = lines_of(stays / "truth.csv"), lines_of(stays / "cases.csv")
    assert "probability" not in lines[0]
    assert [line[0] for line in truth[1:]] == [line[0] for line in lines[1:]]
    labels = np.array([line[-1] == "worse" for line in lines[1:]])
    found = roc_auc_score(labels, [float(line[1]) for line in truth[1:]])
    assert found == pytest.approx(make(1500, stays, broken=0)["bayes_auroc"], abs=0.03)


def test_labs_go_with_the_drivers(stays: Path) -> None:
    values = numbers_of(lines_of(stays / "cases.csv"), [*DRIVERS, *LABS])
    whole = values[~np.isnan(values).any(axis=1)]
    across = np.corrcoef(whole.T)[3:, :3]
    assert (np.abs(across).max(axis=1) > 0.3).all()


def test_two_drivers_matter_only_together() -> None:
    three = np.array([[0.0, 1.5, 1.5], [0.0, -1.5, -1.5], [0.0, 1.5, -1.5], [0.0, -1.5, 1.5]])
    found = probability(three, np.zeros(4), np.full(4, 60.0))
    assert found[0] == found[1] > 0.98 and found[2] == found[3] < 0.01


def test_logistic_is_far_below_the_best_and_boosting_between(stays: Path) -> None:
    lines = lines_of(stays / "cases.csv")
    values = numbers_of(lines, ["age", *DRIVERS, *LABS])
    wards = np.array([[line[COLUMNS.index("ward")] == code for code in WARDS] for line in lines[1:]], dtype=float)
    labels, train = np.array([line[-1] == "worse" for line in lines[1:]]), np.array([int(line[1]) % 3 > 0 for line in lines[1:]])
    filled = np.hstack([np.where(np.isnan(values), np.nanmean(values, axis=0), values), wards])
    scaled = (filled - filled.mean(axis=0)) / filled.std(axis=0)
    plain = LogisticRegression().fit(scaled[train], labels[train]).predict_proba(scaled[~train])[:, 1]
    raw = np.hstack([values, wards])
    trees = HistGradientBoostingClassifier(learning_rate=0.05, max_iter=120, max_leaf_nodes=15, random_state=0)
    boosted = trees.fit(raw[train], labels[train]).predict_proba(raw[~train])[:, 1]
    best = make(1500, stays, broken=0)["bayes_auroc"]
    assert roc_auc_score(labels[~train], plain) < best - 0.1
    assert roc_auc_score(labels[~train], plain) + 0.05 < roc_auc_score(labels[~train], boosted) < best


def test_same_seed_same_bytes_another_seed_differs(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make(20, tmp_path / name, seed=seed)
    for name in ("cases.csv", "truth.csv"):
        a, b, c = ((tmp_path / one / name).read_bytes() for one in "abc")
        assert a == b != c


def test_cut_rows_are_accounted_for(tmp_path: Path) -> None:
    made = make(30, tmp_path / "t", broken=4)
    cut = {line[0] for line in lines_of(tmp_path / "t" / "truth.csv") if line[2] == "cut"}
    short = {line[0] for line in lines_of(tmp_path / "t" / "cases.csv") if len(line) < len(COLUMNS)}
    assert cut == short and len(cut) == made["counts"]["broken"] == made["counts"]["rows"] - made["counts"]["readable"] == 4


@pytest.mark.parametrize("bad", [{"patients": 0}, {"broken": 21}])
def test_impossible_numbers_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        make(**{"patients": 20, "out": tmp_path / "x"} | bad)  # type: ignore[arg-type]
