"""An archive of JPEG and a bundle in; the predictions of a loop written by hand, and its rates, out.  No Ray, and of meddx not a line.

Threads decode at a quarter of the size into one array a batch while the forward runs, or (`--shape percore`) each thread does both.
It prints what decoding alone and the forward alone reach with the same threads, and what both together could reach at most on the
same cores: 1 / (1 / decode + 1 / forward).

    python tests/bench/loop.py BUNDLE DATA OUT [--way openvino|compiled] [--shape pipeline|percore] [--rates]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rivals.plain import ROWS, Forward, cores, forward_of, size_of

AHEAD = 6  # batches that are decoded or being decoded while one is in the forward
RATE_ROWS, RATE_TURNS = 2048, 5
SCHEMA = pa.schema([
    ("case_id", pa.string()), ("patient_id", pa.string()), ("status", pa.string()), ("error", pa.string()), ("probability", pa.float64()),
    ("decision", pa.string()), ("bundle", pa.string()),
])  # fmt: skip


def batches_of(file: Path) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(file, memory_map=True).iter_batches(ROWS, columns=["case_id", "image"], use_threads=False)


def decode(batch: pa.RecordBatch, side: int) -> np.ndarray:
    """uint8 [n, 1, side, side]; straight from Arrow's buffers, without a Python object for the bytes of a picture."""
    images = batch.column("image")
    ends = np.frombuffer(images.buffers()[1], np.int32)[images.offset : images.offset + len(images) + 1]
    data = np.frombuffer(images.buffers()[2], np.uint8)
    pixels = np.empty((len(images), 1, side, side), np.uint8)
    for place in range(len(images)):
        pixels[place, 0] = cv2.imdecode(data[ends[place] : ends[place + 1]], cv2.IMREAD_REDUCED_GRAYSCALE_4)
    return pixels


def answers(ids: pa.Array, chance: np.ndarray, bundle: str) -> pa.RecordBatch:
    count = len(ids)
    decision = pa.array(np.where(chance >= 0.5, "yes", "no"), pa.string())
    nothing, scored = pa.nulls(count, pa.string()), pa.repeat(pa.scalar("scored"), count)
    columns = [ids, nothing, scored, nothing, pa.array(chance, pa.float64()), decision, pa.repeat(pa.scalar(bundle), count)]
    return pa.record_batch(columns, schema=SCHEMA)


Work = Callable[[pa.RecordBatch], np.ndarray]


def pipeline(
    source: Iterator[pa.RecordBatch], pool: ThreadPoolExecutor, first: Work, then: Forward
) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """(ids, probabilities) in order: `first` in the pool, `then` here."""
    ahead: deque[tuple[pa.Array, Future[np.ndarray]]] = deque()
    for batch in source:
        ahead.append((batch.column("case_id"), pool.submit(first, batch)))
        if len(ahead) > AHEAD:
            ids, future = ahead.popleft()
            yield ids, then(future.result())
    for ids, future in ahead:
        yield ids, then(future.result())


def stages(shape: str, forward: Forward, side: int) -> tuple[Work, Forward]:
    """What a thread of the pool does with a batch, and what is left for the main thread."""
    if shape == "pipeline":
        return partial(decode, side=side), forward
    return (lambda batch: forward(decode(batch, side))), (lambda chance: chance)


def score(files: list[Path], out: Path, threads: int, work: tuple[Work, Forward], bundle: str) -> int:
    out.mkdir(parents=True, exist_ok=True)
    rows = 0
    with ThreadPoolExecutor(threads) as pool:
        for file in files:
            with pq.ParquetWriter(out / file.name, SCHEMA, write_page_checksum=True) as writer:
                held: list[pa.RecordBatch] = []
                for ids, chance in pipeline(batches_of(file), pool, *work):
                    held.append(answers(ids, chance, bundle))
                    rows += len(ids)
                writer.write_table(pa.Table.from_batches(held, SCHEMA))
    return rows


def print_rates(files: list[Path], forward: Forward, side: int, threads: int, work: tuple[Work, Forward]) -> None:
    """Each stage alone and both, in turns, medians; the archive's first pictures from memory."""
    some: list[pa.RecordBatch] = []
    for batch in batches_of(files[0]):
        if len(some) * ROWS >= RATE_ROWS or batch.num_rows < ROWS:
            break
        some.append(batch)
    with ThreadPoolExecutor(threads) as pool:
        pixels = list(pool.map(partial(decode, side=side), some))
        together = partial(pool.map, forward) if work[1] is not forward else partial(map, forward)
        ways: dict[str, Callable[[], object]] = {
            "decode only": lambda: list(pool.map(partial(decode, side=side), some)),
            "forward only": lambda: list(together(pixels)),
            "both": lambda: list(pipeline(iter(some), pool, *work)),
        }
        wall: dict[str, list[float]] = {way: [] for way in ways}
        cpu: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(1 + RATE_TURNS):
            for way, run in ways.items():
                start, used = time.perf_counter(), time.process_time()
                run()
                if turn:
                    wall[way].append(time.perf_counter() - start)
                    cpu[way].append(time.process_time() - used)
    count = len(some) * ROWS
    rate = {way: count / statistics.median(times) for way, times in wall.items()}
    for way, one in rate.items():
        print(f"{way:12s} {one:8,.0f} pictures/s, CPU {1000 * statistics.median(cpu[way]) / count:.3f} ms a picture")
    bound = 1 / (1 / rate["decode only"] + 1 / rate["forward only"])
    slower = rate["both"] / min(rate["decode only"], rate["forward only"])
    print(f"both: {slower:.2f} of the slower stage, {rate['both'] / bound:.2f} of {bound:,.0f}/s, the most where both share these cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bundle", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--way", choices=("compiled", "openvino", "eager"), default="openvino")
    parser.add_argument("--shape", choices=("pipeline", "percore"), default="pipeline")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rates", action="store_true", help="the rates of each stage too, after the run")
    asked = parser.parse_args()
    start = time.perf_counter()
    cv2.setNumThreads(1)
    side, files = size_of(asked.bundle), sorted(asked.data.glob("*.parquet"))
    alone = asked.shape == "pipeline"
    forward = forward_of(
        str(asked.bundle), asked.way, asked.threads if alone or asked.way == "openvino" else 1, 1 if alone else asked.threads
    )
    forward(np.zeros((ROWS, 1, side, side), np.uint8))
    ready = time.perf_counter()
    work = stages(asked.shape, forward, side)
    rows = score(files, asked.out, asked.threads, work, "loop")
    seconds = time.perf_counter() - ready
    how = f"{asked.way}, {asked.shape}, {asked.threads} threads"
    print(f"{rows:,} rows, ready after {ready - start:.1f} s, then {rows / seconds:,.0f} rows/s ({how})")
    if asked.rates:
        print_rates(files, forward, side, asked.threads, work)


if __name__ == "__main__":
    main()
