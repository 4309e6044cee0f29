"""The folder of the small CNN's bundle in; the same network in plain torch and its forwards out.  No line of meddx runs here.

Every forward takes uint8 pixels [n, 1, s, s] and gives probabilities [n]; those of a fixed shape fill the last batch up.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 64  # of a forward of fixed shape; 64 pictures of 64 x 64 stay in the caches
Forward = Callable[[np.ndarray], np.ndarray]


def forward_of(bundle: str, way: str, threads: int, streams: int = 1) -> Forward:
    """`way`: eager (float32, what a documentation shows), compiled (bf16, torch.compile) or openvino (bf16)."""
    if way == "openvino":
        return openvino_forward(Path(bundle), threads, streams)
    import torch

    torch.set_num_threads(threads)
    network = network_of(Path(bundle))
    return eager_forward(network) if way == "eager" else compiled_forward(network)


def arguments(said: str | None, **numbers: int) -> argparse.Namespace:
    """What every rival is asked: `bundle`, `data`, `out`, and `way`, the forward; `numbers`: more options with their defaults."""
    parser = argparse.ArgumentParser(description=said)
    for name in ("bundle", "data", "out"):
        parser.add_argument(name, type=lambda given: Path(given).absolute())
    ways = parser.add_mutually_exclusive_group()
    for way in ("compiled", "openvino"):
        ways.add_argument(f"--{way}", dest="way", action="store_const", const=way, default="eager")
    for name, usual in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    return parser.parse_args()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def size_of(bundle: Path) -> int:
    return int(_input(bundle)["size"])


def _input(bundle: Path) -> dict[str, Any]:
    page: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())["inputs"]["inputs"][0]
    return page


def network_of(bundle: Path) -> Any:
    """As anybody would write it: normalise, three convolutions, two layers."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    class SmallCnn(nn.Module):
        def __init__(self, mean: float, std: float) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for before, width in ((1, 32), (32, 64), (64, 128)):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU()]
            self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3))
            self.dense = nn.Sequential(nn.Linear(1152, 128), nn.ReLU())
            self.answer = nn.Linear(128, 1)
            self.mean, self.std = 255 * mean, 255 * std

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = (pixels.float() - self.mean) / self.std
            return torch.sigmoid(self.answer(self.dense(self.network(x).flatten(1))).float()).squeeze(1)

    page = _input(bundle)
    made = SmallCnn(page["mean"][0], page["std"][0])
    weights = {name.removeprefix("encoders.0."): one for name, one in load_file(bundle / "weights.safetensors").items()}
    made.load_state_dict(weights)
    return made.eval()


def eager_forward(network: Any) -> Forward:
    import torch

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = network(torch.from_numpy(pixels)).numpy()
        return found

    return run


def compiled_forward(network: Any) -> Forward:
    import torch

    made = torch.compile(network.to(memory_format=torch.channels_last), options={"freezing": True})

    def once(pixels: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found: np.ndarray = made(given).float().numpy()
        return found

    return _in_shape(once)


def openvino() -> Any:
    """The package without its converter, which would send a message to its maker."""
    hidden = [name for name in ("openvino.tools.ovc", "openvino_telemetry") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import openvino
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    return openvino


def write_graph(bundle: Path) -> Path | None:
    """OpenVINO's two files, beside the bundle, as one would make them once and ship them; None without OpenVINO."""
    if _graph(bundle).exists():
        return _graph(bundle)
    if importlib.util.find_spec("openvino") is None:
        return None
    import logging

    import torch

    logging.disable(logging.WARNING)  # the converter's remarks about torch's tables of operations

    ov = openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    side = size_of(bundle)
    with torch.no_grad():
        program = torch.export.export(network_of(bundle), (torch.zeros(ROWS, 1, side, side, dtype=torch.uint8),))
        decoder = TorchFXPythonDecoder.from_exported_program(program, dynamic_shapes=False)  # it must outlive what is made of it
        front = FrontEndManager().load_by_framework("pytorch")
        graph = front.convert(front.load(decoder))
    ov.serialize(graph, _graph(bundle))
    return _graph(bundle)


def _graph(bundle: Path) -> Path:
    return bundle.parent / f"{bundle.name}.graph.xml"


def openvino_forward(bundle: Path, threads: int, streams: int = 1) -> Forward:
    """One forward that any thread may call; as many at once as there are streams."""
    from queue import SimpleQueue

    ov = openvino()
    settings = {
        "INFERENCE_PRECISION_HINT": ov.Type.bf16,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
    }
    model = ov.Core().compile_model(_graph(bundle), "CPU", settings)
    free: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        free.put(model.create_infer_request())

    def once(pixels: np.ndarray) -> np.ndarray:
        request = free.get()
        try:
            return np.array(request.infer([pixels], share_inputs=True)[0])
        finally:
            free.put(request)

    return _in_shape(once)


def _in_shape(once: Forward) -> Forward:
    """Any number of rows through a forward that takes exactly ROWS."""

    def run(pixels: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(pixels), ROWS):
            part = pixels[start : start + ROWS]
            real = len(part)
            if real < ROWS:
                part = np.concatenate([part, np.repeat(part[:1], ROWS - real, 0)])
            found.append(once(np.ascontiguousarray(part))[:real])
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    return run
