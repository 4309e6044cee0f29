"""Several targets of one page in, their labels side by side out, and each one's own again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from meddx.dataset.options import TargetOptions
from meddx.dataset.target import Labels, TargetCoder


class SeveralCoder(TargetCoder):
    """The coders of several targets as one.  `of`: name to coder; a multilabel target has a column a label, the others one."""

    def __init__(self, options: TargetOptions) -> None:
        self.options, self.kind, self.classes = options, options.kind, ()
        self.of = {name: TargetCoder(one) for name, one in options.of.items()}
        self.columns = options.all_columns

    def encode(self, table: pa.Table) -> Labels:
        """values float64 [n, columns], known bool [n, columns], the targets in the order of the page."""
        found = [coder.encode(table) for coder in self.of.values()]
        values = [one.values.reshape(table.num_rows, -1).astype(np.float64) for one in found]
        return Labels(np.concatenate(values, axis=1), np.concatenate([one.known.reshape(table.num_rows, -1) for one in found], axis=1))

    def split(self, labels: Labels) -> Iterator[tuple[str, TargetCoder, Labels]]:
        """Each target's name, coder and own labels, as its coder would have made them."""
        start = 0
        for name, coder in self.of.items():
            columns = slice(start, start + (len(coder.classes) if coder.kind == "multilabel" else 1))
            start = columns.stop
            values, known = labels.values[:, columns], labels.known[:, columns]
            if coder.kind == "multilabel":
                yield name, coder, Labels(values.astype(np.float32), known)
            else:
                kind = {"binary": np.float32, "regression": np.float64}.get(coder.kind, np.int64)
                yield name, coder, Labels(values[:, 0].astype(kind), known[:, 0])


def coder_of(options: TargetOptions) -> TargetCoder:
    """The coder of a page's target, one or several."""
    return SeveralCoder(options) if options.kind == "several" else TargetCoder(options)


def questions(coder: TargetCoder, labels: Labels) -> list[tuple[str, TargetCoder, Labels]]:
    """(name, coder, labels) of each target; one target has the name ''."""
    return list(coder.split(labels)) if isinstance(coder, SeveralCoder) else [("", coder, labels)]
