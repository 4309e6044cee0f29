"""Pictures a second of the small CNN on JPEG of 256 x 256, read at 64: decoding alone, each way of the forward alone, and both together.

The ways take turns, and medians count.  Without openvino its ways are left out.

    python tests/bench/forward.py [pictures] [rounds] [--compile]
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch

from meddx.dataset.options import CohortOptions
from meddx.inputs.options import ImageInput
from meddx.inputs.prepare import fit
from meddx.models.build import build_model
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.predict.bundle import Bundle, write_bundle
from meddx.predict.engine import EnginePlan, batches, network_logits
from meddx.predict.networks import NetworkParts
from meddx.storage import StoragePath

SIDE, SIZE = 256, 64
HEAD = {"kind": "binary", "classes": ["no", "yes"]}


def films(count: int) -> pa.Table:
    """JPEG with shapes in them, for noise alone takes twice as long to decode."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        film = cv2.GaussianBlur(rng.integers(0, 255, (SIDE, SIDE), np.uint8), (0, 0), 4).astype(float)
        cv2.circle(film, rng.integers(60, 200, 2).tolist(), int(rng.integers(10, 60)), float(rng.integers(60, 200)), -1)
        found.append(cv2.imencode(".jpg", np.clip(film, 0, 255).astype(np.uint8))[1].tobytes())
    return pa.table({"case_id": [f"c{row}" for row in range(count)], "image": pa.array(found, pa.binary())})


def bundle_at(path: StoragePath, table: pa.Table) -> Bundle:
    preparations = fit({"film": ImageInput(kind="image", size=SIZE)}, {}, table.slice(0, 64))
    torch.manual_seed(0)
    options, encoder = ModelOptions(), EncoderOptions(kind="cnn")
    model = build_model(options, {"film": encoder}, preparations.specs(), HEAD)
    parts = NetworkParts(options.model_dump(mode="json"), {"film": encoder.model_dump(mode="json")}, model.state_dict())
    write_bundle(
        path, name="cnn", head=HEAD, preparations=preparations, predictor=parts, calibration={"kind": "none"},
        threshold={"value": 0.5, "goal": "youden", "confidence": None, "reached": {}}, cohort=CohortOptions(),
        target={"kind": "binary", "negative": ["no"], "positive": ["yes"]}, about={},
    )  # fmt: skip
    return Bundle.load(path)


def bundles(path: StoragePath, usual: Bundle) -> Iterator[tuple[str, Bundle]]:
    yield "torch float32", usual
    yield "torch bfloat16", replace(usual, plan=replace(usual.plan, dtype="bfloat16"))
    if importlib.util.find_spec("openvino") is None:
        return
    from meddx.predict.graph import capabilities

    for dtype in ("float32", *(["bfloat16"] if "BF16" in capabilities() else [])):
        plan: EnginePlan = replace(usual.plan, engine="openvino", dtype=dtype)  # type: ignore[arg-type]
        yield f"openvino {dtype}", Bundle.load(path, plan=plan.page())


def compiled(usual: Bundle, prepared: dict[str, Any]) -> Callable[[], None]:
    """torch.compile in bfloat16 with freezing: what the engine does not use, for compiling takes 7 to 21 seconds a process."""
    film = [torch.from_numpy(batch["film"].arrays["pixels"].copy()) for batch, _ in batches(prepared, usual.plan.batch_rows)]
    film = [one.contiguous(memory_format=torch.channels_last) for one in film]
    present = torch.ones(usual.plan.batch_rows, dtype=torch.bool)
    made = torch.compile(usual.predictor.to(memory_format=torch.channels_last), options={"freezing": True})

    def run() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for one in film:
                made({"film": {"pixels": one, "present": present}})

    return run


def main(count: int = 4096, rounds: int = 7, compile_too: bool = False) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, table = StoragePath.of(Path(name) / "cnn"), films(count)
        usual = bundle_at(path, table)
        prepared = usual.preparations.transform(table)
        ways: dict[str, Callable[[], Any]] = {"decode": lambda: usual.preparations.transform(table)}
        for said, bundle in bundles(path, usual):
            ways[f"forward, {said}"] = lambda one=bundle: network_logits(one.predictor, prepared, one.plan)
            ways[f"predict, {said}"] = lambda one=bundle: one.predict(table)
        if compile_too:
            ways["forward, torch compiled bfloat16"] = compiled(Bundle.load(path), prepared)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(1 + rounds):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                if turn:  # the first one warms up
                    times[way].append(time.perf_counter() - start)
    print(f"{count:,} pictures, {rounds} rounds, {torch.get_num_threads()} threads, batches of {usual.plan.batch_rows}")
    for way, seconds in times.items():
        low, high = count / max(seconds), count / min(seconds)
        print(f"{way:36s} {count / statistics.median(seconds):8,.0f} pictures/s   ({low:,.0f} to {high:,.0f})")


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:] if one.isdigit()]
    main(*numbers, compile_too="--compile" in sys.argv)
