"""An archive of JPEG and a bundle in, predictions out, the way Spark's guides show it: an iterator `pandas_udf` that loads the model once.

python tests/bench/rivals/spark_udf.py BUNDLE DATA OUT [--compiled | --openvino]
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from plain import ROWS, arguments, forward_of
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf, when

SIDE = 64


def pixels_of(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("L").resize((SIDE, SIDE)))[None]


def main() -> None:
    asked = arguments(__doc__)
    bundle, way = str(asked.bundle), asked.way
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master("local[*]")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(ROWS))
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("plain.py")))

    @pandas_udf("double")
    def probability(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        forward = forward_of(bundle, way, threads=1)
        for images in batches:
            yield pd.Series(forward(np.stack([pixels_of(one) for one in images])).astype(np.float64))

    frame = spark.read.parquet(str(asked.data))
    frame = frame.select("case_id", probability("image").alias("probability"))
    frame = frame.withColumn("decision", when(frame["probability"] >= 0.5, "yes").otherwise("no"))
    frame.write.mode("overwrite").parquet(str(asked.out))
    spark.stop()


if __name__ == "__main__":
    main()
