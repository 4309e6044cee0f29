"""An archive of JPEG and a bundle in, predictions out, as Ray Data's guide shows batch inference: read, map, a pool of actors, write.

The pool has one actor on two processors: with two actors of one CPU each no processor is left for the reading, and the run never ends.

    python tests/bench/rivals/ray_documented.py BUNDLE DATA OUT [--compiled | --openvino] [--pool 1]
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import ray
from PIL import Image
from plain import ROWS, arguments, cores, forward_of

SIDE = 64


def preprocess(row: dict[str, Any]) -> dict[str, Any]:
    picture = Image.open(io.BytesIO(row["image"])).convert("L").resize((SIDE, SIDE))
    return {"case_id": row["case_id"], "pixels": np.asarray(picture)[None]}


class Classifier:
    """The model is loaded once an actor."""

    def __init__(self, bundle: str, way: str) -> None:
        self.forward = forward_of(bundle, way, threads=1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        chance = self.forward(np.ascontiguousarray(batch["pixels"]))
        return {"case_id": batch["case_id"], "probability": chance.astype(np.float64), "decision": np.where(chance >= 0.5, "yes", "no")}


def main() -> None:
    asked = arguments(__doc__, pool=max(1, cores() - 1))
    ray.init(include_dashboard=False, log_to_driver=False)
    (
        ray.data.read_parquet(str(asked.data))
        .map(preprocess)
        .map_batches(
            Classifier,
            fn_constructor_args=(str(asked.bundle), asked.way),
            batch_size=ROWS,
            compute=ray.data.ActorPoolStrategy(size=asked.pool),
            num_cpus=1,
        )
        .write_parquet(str(asked.out))
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
