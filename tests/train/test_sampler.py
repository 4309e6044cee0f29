from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.train.sampler import Stream, own_shards, permutation, shards

sizes = st.integers(2, 60)
streams = st.builds(Stream, cases=sizes, batch=sizes, epochs=st.integers(1, 5), seed=st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(streams)
def test_each_epoch_covers_each_row_once(stream: Stream) -> None:
    rows, epochs = (np.concatenate(column) for column in zip(*map(stream.rows, range(stream.steps)), strict=True))
    assert len(rows) == stream.cases * stream.epochs  # nothing padded, nothing dropped
    for epoch in range(stream.epochs):
        assert Counter(rows[epochs == epoch].tolist()) == Counter(range(stream.cases))


@settings(max_examples=60, deadline=None)
@given(streams)
def test_steps_are_full_but_the_last(stream: Stream) -> None:
    lengths = [len(stream.rows(step)[0]) for step in range(stream.steps)]
    assert set(lengths[:-1]) <= {stream.batch}
    assert min(2, stream.length) <= lengths[-1] <= stream.batch + 1  # never a single row: BatchNorm needs two
    done = [stream.epochs_done(step) for step in range(stream.steps + 1)]
    assert done[0] == 0 and done[-1] == stream.epochs and done == sorted(done)


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 300), pieces=st.integers(1, 16), world=st.integers(1, 20))
def test_shards_cut_a_batch_without_asking_for_workers(rows: int, pieces: int, world: int) -> None:
    cut = shards(rows, pieces)
    assert np.concatenate([np.arange(rows)[piece] for piece in cut]).tolist() == list(range(rows))
    lengths = [piece.stop - piece.start for piece in cut]
    assert len(cut) <= pieces and min(lengths) >= min(2, rows) and max(lengths) - min(lengths) <= 1
    owned = [shard for rank in range(world) for shard in own_shards(len(cut), rank, world)]
    assert owned == list(range(len(cut)))  # each shard has one rank, in contiguous runs


def test_order_depends_on_seed_and_epoch_only() -> None:
    assert permutation(50, 0, 0).tolist() == permutation(50, 0, 0).tolist()
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert permutation(7, 0, 0).tolist() == [3, 1, 6, 2, 4, 0, 5]  # frozen: a resumed run must find the same order for ever


def test_a_step_is_the_same_wherever_the_run_started() -> None:
    stream = Stream(cases=10, batch=4, epochs=3, seed=1)
    backwards = {step: stream.rows(step)[0].tolist() for step in reversed(range(stream.steps))}
    assert [backwards[step] for step in range(stream.steps)] == [stream.rows(step)[0].tolist() for step in range(stream.steps)]


def balanced(counts: list[int], batch: int = 8, epochs: int = 4, seed: int = 0) -> Stream:
    """Classes of so many rows, in a row order that mixes them; row 0 has no label."""
    numbers = np.concatenate([[-1], np.repeat(np.arange(len(counts)), counts)])
    numbers[1:] = np.random.default_rng(0).permutation(numbers[1:])
    members = tuple(np.flatnonzero(numbers == k) for k in range(len(counts)))
    return Stream(len(numbers), batch, epochs, seed, members)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=4), batch=sizes, epochs=st.integers(1, 5))
def test_balanced_draws_every_class_and_every_row_of_a_class_equally_often(counts: list[int], batch: int, epochs: int) -> None:
    stream = balanced(counts, batch, epochs)
    rows, passes = (np.concatenate(column) for column in zip(*map(stream.rows, range(stream.steps)), strict=True))
    assert len(rows) == stream.length and 0 not in rows
    of_class = [np.isin(rows, members).sum() for members in stream.members]
    assert max(of_class) - min(of_class) <= 1
    for members in stream.members:
        times = [int((rows == row).sum()) for row in members]
        assert max(times) - min(times) <= 1
    assert len({*zip(rows.tolist(), passes.tolist(), strict=True)}) == len(rows)  # a row drawn twice is augmented in two ways


def test_balanced_epochs_are_balanced_and_shuffled() -> None:
    stream = balanced([90, 9], batch=25, epochs=3)
    rows = np.concatenate([stream.rows(step)[0] for step in range(stream.steps)])
    rare = np.isin(rows, stream.members[1])
    assert [int(rare[start : start + 100].sum()) for start in (0, 100, 200)] == [50, 50, 50]
    assert 5 < rare[:25].sum() < 20  # by chance in a batch, not in turn
    assert rows[:100].tolist() != rows[100:200].tolist()


def test_balanced_steps_are_the_same_wherever_the_run_started() -> None:
    stream, other = balanced([20, 3, 6], batch=11, epochs=6), balanced([20, 3, 6], batch=11, epochs=6)
    backwards = {step: [column.tolist() for column in stream.rows(step)] for step in reversed(range(stream.steps))}
    assert [backwards[step] for step in range(stream.steps)] == [
        [column.tolist() for column in other.rows(step)] for step in range(other.steps)
    ]
    assert balanced([20, 3, 6], seed=1).rows(0)[0].tolist() != stream.rows(0)[0][:8].tolist()
    frozen = Stream(6, 6, 1, 0, (np.array([0, 1, 2, 3]), np.array([4, 5]))).rows(0)
    assert [column.tolist() for column in frozen] == [
        [5, 4, 2, 1, 0, 4],
        [0, 0, 0, 0, 0, 1],
    ]  # a resumed run must find the same order for ever
