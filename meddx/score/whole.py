"""A unit of many small files in, its chunks out: files are read ahead by a few threads, and what they hold is answered together."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from meddx.score.rows import Chunk

READ_THREADS = 4  # opening a file waits for storage, and Arrow decodes without the GIL
AHEAD = 8  # files; a unit of small files is at most about twice unit_mb, so that all of it may be held
MAX_BYTES = 32 << 20  # of one chunk: pictures may be larger than their files


def read_ahead(count: int, read: Callable[[int], list[Chunk]]) -> Iterator[Chunk]:
    """The chunks of read(0), read(1), ... in this order; a few files are read while earlier ones are answered."""
    with ThreadPoolExecutor(min(READ_THREADS, count, 2 * (os.cpu_count() or 1))) as pool:
        waiting: deque[Future[list[Chunk]]] = deque()
        try:
            for number in range(count):
                waiting.append(pool.submit(read, number))
                if len(waiting) > AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def joined(chunks: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    """Neighbours of one kind as one chunk of at most `rows` rows: a network answers 64 files of one row as fast as one."""
    held: list[Chunk] = []
    count = size = 0
    for chunk in chunks:
        weight = 0 if chunk.table is None else chunk.table.nbytes
        if held and (count + chunk.rows > rows or size + weight > MAX_BYTES or not _alike(held[0], chunk)):
            yield _one(held)
            held, count, size = [], 0, 0
        held.append(chunk)
        count, size = count + chunk.rows, size + weight
    if held:
        yield _one(held)


def _alike(one: Chunk, other: Chunk) -> bool:
    if one.table is None or other.table is None:
        return one.error == other.error and one.table is other.table
    return one.error == other.error and bool(one.table.schema.equals(other.table.schema))


def _one(held: list[Chunk]) -> Chunk:
    if len(held) == 1:
        return held[0]
    table = None if held[0].table is None else pa.concat_tables([one.table for one in held]).combine_chunks()
    return Chunk(0, sum(one.rows for one in held), table, held[0].error)
