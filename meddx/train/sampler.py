"""A number of cases and a seed in, the rows of every step and shard out.

The order is one endless stream, permutation(seed, 0), permutation(seed, 1), ...; step s takes rows [sB, (s+1)B) of it, so a
batch may span two epochs, nothing is padded and no row is dropped.  A batch is cut into K fixed shards; a rank runs whole
shards, in contiguous runs.  Nothing here depends on the number of workers except who runs which shard.

Balanced: the endless stream has slots 0, 1, 2, ...; slot g belongs to class g mod C and is that class's draw g div C, and a
class's draws go through its rows in one random order after another.  An epoch is as many slots as there are rows, shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from meddx.train.seeds import CLASS_ORDER, ORDER, counter_hash


@lru_cache(maxsize=3)
def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of n rows in an epoch, int64 [n], read-only.  By sorting a hash: NumPy's own may change between versions."""
    order = np.argsort(counter_hash(ORDER, seed, epoch, np.arange(n)), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class Stream:
    """All rows of a training run, in order: `cases` rows, `epochs` times, `batch` a step.

    `members`: row numbers int64 of each class, to draw every class equally often; empty: every row once an epoch.
    """

    cases: int
    batch: int
    epochs: int
    seed: int
    members: tuple[np.ndarray, ...] = ()
    _kept: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        """Row numbers and which pass over the row this is, int64 [b] each: the epoch, or balanced how often it came before."""
        positions = np.arange(step * self.batch, self.end(step), dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.cases)
        rows, passes = np.empty_like(offsets), np.empty_like(offsets)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            order = permutation(self.cases, self.seed, epoch)[offsets[inside]]
            if self.members:
                drawn, times = self._balanced(epoch)
                rows[inside], passes[inside] = drawn[order], times[order]
            else:
                rows[inside], passes[inside] = order, epoch
        return rows, passes

    def _balanced(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(row, pass over it) of every slot of an epoch, int64 [cases] each."""
        if epoch not in self._kept:
            slots = np.arange(epoch * self.cases, (epoch + 1) * self.cases, dtype=np.int64)
            draws, classes = np.divmod(slots, len(self.members))
            rows, passes = np.empty_like(slots), np.empty_like(slots)
            for place, members in enumerate(self.members):
                inside = classes == place
                if inside.any():
                    times, offsets = np.divmod(draws[inside], len(members))
                    orders = _orders(len(members), self.seed, place, np.arange(times[0], times[-1] + 1))
                    rows[inside], passes[inside] = members[orders[times - times[0], offsets]], times
            for old in list(self._kept)[:-1]:
                self._kept.pop(old)
            self._kept[epoch] = rows, passes
        return self._kept[epoch]

    def epochs_done(self, steps: int) -> int:
        """Whole epochs that are over after so many steps."""
        return 0 if steps == 0 else self.end(steps - 1) // self.cases


def _orders(n: int, seed: int, place: int, passes: np.ndarray) -> np.ndarray:
    """The order of a class's n rows in some passes over them, int64 [passes, n]."""
    return np.argsort(counter_hash(CLASS_ORDER, seed, place, passes[:, None], np.arange(n)[None, :]), axis=1, kind="stable")


def shards(rows: int, pieces: int) -> list[slice]:
    """Cut a batch of `rows` into at most `pieces` near-equal contiguous shards of at least two rows (one, if rows is 1)."""
    pieces = max(1, min(pieces, rows // 2))
    bounds = [rows * piece // pieces for piece in range(pieces + 1)]
    return [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def own_shards(pieces: int, rank: int, world: int) -> range:
    """The shards that a rank runs: contiguous, in order; none where there are more ranks than shards."""
    return range(pieces * rank // world, pieces * (rank + 1) // world)
