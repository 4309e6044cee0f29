"""An archive of JPEG and a bundle in, predictions out, the way Daft's guides show it: its own decoding and resizing, and a class UDF.

python tests/bench/rivals/daft_udf.py BUNDLE DATA OUT [--compiled | --openvino]
"""

from __future__ import annotations

import os

import daft
import numpy as np
from daft import DataType, col
from daft.functions import decode_image, resize, when
from plain import ROWS, arguments, cores, forward_of

SIDE = 64


@daft.cls
class Classifier:
    """The model is loaded once a worker."""

    def __init__(self, bundle: str, way: str) -> None:
        self.forward = forward_of(bundle, way, threads=cores())

    @daft.method.batch(return_dtype=DataType.float64(), batch_size=ROWS)
    def probability(self, images: daft.Series) -> np.ndarray:
        pixels = np.stack([np.asarray(one).reshape(1, SIDE, SIDE) for one in images.to_pylist()])
        return self.forward(pixels).astype(np.float64)


def main() -> None:
    asked = arguments(__doc__)
    classifier = Classifier(str(asked.bundle), asked.way)
    film = resize(decode_image(col("image"), mode="L"), SIDE, SIDE)
    frame = daft.read_parquet(str(asked.data)).with_column("film", film)
    frame = frame.select("case_id", classifier.probability(col("film")).alias("probability"))
    frame = frame.with_column("decision", when(col("probability") >= 0.5, "yes").otherwise("no"))
    frame.write_parquet(str(asked.out))
    os._exit(0)  # all is written; two ordinary exits of six were aborts in Daft's threads (0.7.26)


if __name__ == "__main__":
    main()
