"""How many rows of real tables that the contract was not learned from it calls outside, and how many of a column in wrong units.

python tests/bench/contract.py            (MEDDX_SHARED: where the data lies)
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from meddx.inputs.options import TableInput
from meddx.inputs.table import TablePreparation

SHARED = Path(os.environ.get("MEDDX_SHARED", Path(__file__).parents[3] / "shared")) / "data"
SEEDS = 5
FAHRENHEIT = (1.8, 32.0)
MISTAKES = {  # column: what it is multiplied with, and what is added
    "support2": {"crea": (88.4, 0), "temp": FAHRENHEIT, "alb": (10, 0), "wblc": (1000, 0), "bili": (17.1, 0), "glucose": (1 / 18, 0)},
    "icu": {"Creatinine": (88.4, 0), "Height": (0.01, 0), "Temp": FAHRENHEIT, "Platelets": (1000, 0), "Glucose": (1 / 18, 0)},
    "breast": {"mean radius": (10, 0)},
}  # fmt: skip


def tables() -> dict[str, pd.DataFrame]:
    """Numbers only; index columns and ids left out."""
    heart = pd.read_csv(SHARED / "heart_uci" / "processed.cleveland.data", header=None, na_values="?")
    stays = pd.read_parquet(SHARED / "physionet2012" / "set-a.parquet")
    diabetes = pd.read_csv(SHARED / "diabetes130" / "diabetic_data.csv.gz", na_values="?", low_memory=False)
    found = {
        "support2": pd.read_csv(SHARED / "support2" / "support2.csv").drop(columns=["Unnamed: 0"], errors="ignore"),
        "actg175": pd.read_csv(SHARED / "actg175" / "ACTG175.csv").drop(columns=["pidnum", "Unnamed: 0"], errors="ignore"),
        "heart": heart.rename(columns=str),
        "diabetes": diabetes.drop(columns=["encounter_id", "patient_nbr"]),
        "icu": stays[stays.value != -1]
        .groupby(["record_id", "parameter"])
        .value.first()
        .unstack()
        .drop(columns=["RecordID"], errors="ignore"),
        "breast": load_breast_cancer(as_frame=True).data,
    }
    return {name: table.select_dtypes("number").reset_index(drop=True) for name, table in found.items()}


def share_outside(made: TablePreparation, table: pd.DataFrame) -> tuple[float, dict[str, float]]:
    """(share of rows with any code, share of the known cells of each column)."""
    found = made.transform(pa.Table.from_pandas(table, preserve_index=False)).outside
    rows = np.unique(np.concatenate([np.zeros(0, int), *found.values()]))
    columns = {code.removeprefix("range:"): len(places) for code, places in found.items()}
    return len(rows) / len(table), {name: count / table[name].notna().sum() for name, count in columns.items()}


def main() -> None:
    for name, table in tables().items():
        flagged, wrong, worst = [], {}, {}
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(table))
            train, rest = table.iloc[order[: int(0.6 * len(table))]], table.iloc[order[int(0.6 * len(table)) :]]
            made = TablePreparation.fit("t", TableInput(), list(table.columns), pa.Table.from_pandas(train, preserve_index=False))
            share, columns = share_outside(made, rest)
            flagged.append(share)
            worst |= columns
            for column, (factor, more) in MISTAKES.get(name, {}).items():
                wrong.setdefault(column, []).append(
                    share_outside(made, rest.assign(**{column: rest[column] * factor + more}))[1].get(column, 0)
                )
        line = ", ".join(f"{column} {np.mean(shares):.0%}" for column, shares in wrong.items())
        most = max(worst, key=lambda column: worst[column], default="")
        print(f"{name}: {len(table):,} rows, {table.shape[1]} numbers: outside {np.mean(flagged):.2%} of rows left out", end="")
        print(f" (most: {most} {worst[most]:.2%})" if most else "", f"; in wrong units: {line}" if line else "")


if __name__ == "__main__":
    main()
