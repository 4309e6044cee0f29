"""A number of pictures in; an archive of JPEG of 256 x 256 as Parquet, and a bundle of the small CNN trained on some of them, out.

    python tests/bench/jpegs.py runs/bench --rows 30000 [--bundle]

writes runs/bench/jpegs-30000/*.parquet (`case_id`, `image`) and with --bundle runs/bench/cnn (and, where openvino is installed, its graph
for the programs that run without meddx).  The pictures repeat after 3,000, their ids do not.  What is there already is left alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rivals.plain import write_graph
from torch.nn.functional import binary_cross_entropy_with_logits

from meddx.dataset.options import CohortOptions
from meddx.inputs.options import ImageInput
from meddx.inputs.prepare import fit
from meddx.models.build import build_model
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.predict.bundle import write_bundle
from meddx.predict.networks import NetworkParts
from meddx.storage import StoragePath

SIDE, SIZE, DISTINCT, QUALITY = 256, 64, 3000, 85
GROUP, FILE_MB = 512, 64
STEPS, BATCH, DOUBT = 80, 64, 0.15  # of the labels are wrong: else the network is so sure that bfloat16 moves its answers
HEAD = {"kind": "binary", "classes": ["no", "yes"]}


def film(rng: np.random.Generator) -> tuple[bytes, bool]:
    """One JPEG, and whether there is a disc on it: broad shapes, soft edges and the grain of a detector."""
    rough = rng.integers(40, 200, (8, 8), np.uint8)
    made = cv2.resize(rough, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    sick = bool(rng.random() < 0.3)
    if sick:
        spot = np.zeros((SIDE, SIDE), np.float32)
        cv2.circle(spot, rng.integers(60, 196, 2).tolist(), int(rng.integers(12, 30)), float(rng.integers(30, 70)), -1)
        made += cv2.GaussianBlur(spot, (0, 0), 3)
    made += rng.normal(0, 9, (SIDE, SIDE)).astype(np.float32)
    return cv2.imencode(".jpg", np.clip(made, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes(), sick


def films(count: int, seed: int = 0) -> tuple[list[bytes], np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [film(rng) for _ in range(count)]
    return [one for one, _ in found], np.array([sick for _, sick in found])


def write_archive(folder: Path, rows: int) -> None:
    """Files of about 64 MB in groups of 512 rows; published whole, so that a stop leaves no half archive."""
    if folder.exists():
        return
    pictures, _ = films(min(DISTINCT, rows))
    each = sum(map(len, pictures)) // len(pictures)
    a_file = max(GROUP, FILE_MB * 2**20 // each // GROUP * GROUP)
    part = folder.with_name(f".{folder.name}")
    part.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, rows, a_file)):
        places = range(start, min(start + a_file, rows))
        images = pa.array([pictures[place % len(pictures)] for place in places], pa.binary())
        table = pa.table({"case_id": [f"c{place:08d}" for place in places], "image": images})
        pq.write_table(table, part / f"films-{number:05d}.parquet", row_group_size=GROUP, compression={"case_id": "zstd", "image": "none"})
    part.rename(folder)
    print(f"{folder}: {rows:,} pictures of {each / 1024:.1f} KB in files of {a_file:,} rows")


def write_cnn(path: Path) -> None:
    """The network of the recipes (`cnn`, 64 pixels, one answer), trained a little, for half a minute: its probabilities are no coin's."""
    if path.exists():
        return
    pictures, sick = films(1000, seed=1)
    table = pa.table({"case_id": [f"t{row}" for row in range(len(sick))], "image": pa.array(pictures, pa.binary())})
    truth = torch.from_numpy(sick ^ (np.random.default_rng(5).random(len(sick)) < DOUBT)).float()
    preparations = fit({"film": ImageInput(kind="image", size=SIZE)}, {}, table)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # several would wait for each other by spinning beside other work
    options, encoder = ModelOptions(), EncoderOptions(kind="cnn")
    model = build_model(options, {"film": encoder}, preparations.specs(), HEAD)
    pixels = torch.from_numpy(preparations.transform(table)["film"].arrays["pixels"])
    optimizer, loss = torch.optim.AdamW(model.parameters(), 1e-3), torch.zeros(())
    for _ in range(STEPS):
        rows = torch.randint(len(sick), (BATCH,))
        logits = model.train()({"film": {"pixels": pixels[rows], "present": torch.ones(BATCH, dtype=torch.bool)}})
        loss = binary_cross_entropy_with_logits(logits.squeeze(1), truth[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    parts = NetworkParts(options.model_dump(mode="json"), {"film": encoder.model_dump(mode="json")}, model.state_dict())
    write_bundle(
        StoragePath.of(path), name="cnn", head=HEAD, preparations=preparations, predictor=parts, calibration={"kind": "none"},
        threshold={"value": 0.5, "goal": "youden", "confidence": None, "reached": {}}, cohort=CohortOptions(),
        target={"kind": "binary", "negative": ["no"], "positive": ["yes"]}, about={},
    )  # fmt: skip
    print(f"{path}: loss {loss.item():.3f} after {STEPS} steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    parser.add_argument("--bundle", action="store_true")
    asked = parser.parse_args()
    start = time.perf_counter()
    for rows in asked.rows:
        write_archive(asked.out / f"jpegs-{rows}", rows)
    if asked.bundle:
        write_cnn(asked.out / "cnn")
        print(f"graph for the programs without meddx: {write_graph(asked.out / 'cnn') or 'none, openvino is missing'}")
    print(f"{time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
