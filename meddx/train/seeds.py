"""Whole numbers in, the same random numbers out on every machine: random draws by counter, without a state.

Every draw of a training run is a pure function of what it is for (seed, epoch, row, step, shard), so it cannot depend on
the rank, the worker count or on what was drawn before, and a resumed run needs no saved generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

# What a draw is for: a different first word, a different stream.
ORDER, AUGMENT, SHARD, WEIGHTS, CLASS_ORDER = 1, 2, 3, 4, 5


def counter_hash(*words: int | np.ndarray) -> np.ndarray:
    """Hash words (integers or integer arrays that broadcast) to uint64, shape of the broadcast, at least [1].

    The finaliser is splitmix64's (Steele, Lea, Flood, 2014, "Fast splittable pseudorandom number generators").
    """
    state = np.zeros(1, np.uint64)
    for word in words:
        state = _mix((state ^ np.atleast_1d(np.asarray(word)).astype(np.int64).view(np.uint64)) + _GOLDEN)
    return state


def seed_of(*words: int) -> int:
    """One seed for `torch.manual_seed`, 0 <= seed < 2^63."""
    return int(counter_hash(*words)[0] >> np.uint64(1))


def uniforms(columns: int, *words: int | np.ndarray) -> np.ndarray:
    """Independent uniform numbers in [0, 1), float64 [n, columns], one row for each row of the broadcast words."""
    base = counter_hash(*words)[:, None]
    draws = _mix(base ^ counter_hash(np.arange(columns))[None, :])
    return np.asarray((draws >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(z: np.ndarray) -> Any:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
