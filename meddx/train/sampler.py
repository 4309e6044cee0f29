"""A number of cases and a seed in, the rows of every step and shard out.

The order is one endless stream, permutation(seed, 0), permutation(seed, 1), ...; step s takes rows [sB, (s+1)B) of it, so a
batch may span two epochs, nothing is padded and no row is dropped.  A batch is cut into K fixed shards; a rank runs whole
shards, in contiguous runs.  Nothing here depends on the number of workers except who runs which shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from meddx.train.seeds import ORDER, counter_hash


@lru_cache(maxsize=3)
def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of n rows in an epoch, int64 [n], read-only.  By sorting a hash: NumPy's own may change between versions."""
    order = np.argsort(counter_hash(ORDER, seed, epoch, np.arange(n)), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class Stream:
    """All rows of a training run, in order: `cases` rows, `epochs` times, `batch` a step."""

    cases: int
    batch: int
    epochs: int
    seed: int

    @property
    def length(self) -> int:
        return self.cases * self.epochs

    @property
    def steps(self) -> int:
        """The last batch holds what is left; a single row left over joins the batch before (BatchNorm needs two)."""
        whole, rest = divmod(self.length, self.batch)
        return max(1, whole + (rest > 1))

    def end(self, step: int) -> int:
        """Where in the stream the step ends."""
        return self.length if step >= self.steps - 1 else (step + 1) * self.batch

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and the epoch that each belongs to, int64 [b] each."""
        positions = np.arange(step * self.batch, self.end(step), dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.cases)
        rows = np.empty_like(offsets)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            rows[inside] = permutation(self.cases, self.seed, epoch)[offsets[inside]]
        return rows, epochs

    def epochs_done(self, steps: int) -> int:
        """Whole epochs that are over after so many steps."""
        return 0 if steps == 0 else self.end(steps - 1) // self.cases


def shards(rows: int, pieces: int) -> list[slice]:
    """Cut a batch of `rows` into at most `pieces` near-equal contiguous shards of at least two rows (one, if rows is 1)."""
    pieces = max(1, min(pieces, rows // 2))
    bounds = [rows * piece // pieces for piece in range(pieces + 1)]
    return [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def own_shards(pieces: int, rank: int, world: int) -> range:
    """The shards that a rank runs: contiguous, in order; none where there are more ranks than shards."""
    return range(pieces * rank // world, pieces * (rank + 1) // world)
