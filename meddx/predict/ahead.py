"""Items and work on each in, their results in order out, made a few items ahead in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar, cast

A = TypeVar("A")
B = TypeVar("B")
DEPTH = 2
END = object()


class Later(Generic[B]):
    """A result that is there, or is waited for, when it is asked for: then its own exception is raised, and no other's."""

    def __init__(self, future: Future[B]) -> None:
        self._future = future

    def __call__(self) -> B:
        return self._future.result()


def ahead(work: Callable[[A], B], items: Iterable[A], depth: int = DEPTH) -> Iterator[Later[B]]:
    """One `Later` an item, in order: call it for the result of `work(item)`, which may already be there.

    One thread takes the items and works on them, each once, at most `depth` of them before they are asked for.  What `work` raises comes
    out of its own `Later`, and the items after it go on; what `items` raises comes out of the iteration, in its place.  Whoever stops
    early waits for the one item at hand; `items` is closed.
    """
    source = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    waiting: deque[tuple[Future[object], Future[B]]] = deque()

    def take() -> object:
        return next(source, END)

    def done(taken: Future[object]) -> B:
        item = taken.result()  # the one thread has taken it before it comes here
        return cast(B, END) if item is END else work(cast(A, item))

    def submit() -> None:
        taken = thread.submit(take)
        waiting.append((taken, thread.submit(done, taken)))

    try:
        for _ in range(max(depth, 1)):
            submit()
        while True:
            taken, result = waiting.popleft()
            if taken.result() is END:
                return
            submit()
            yield Later(result)
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
        if close := getattr(source, "close", None):
            close()
