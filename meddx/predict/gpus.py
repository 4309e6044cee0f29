"""This machine in; the GPUs that this process may use, out.  Without torch: who plans a night need not import it."""

from __future__ import annotations

import os
import re
from pathlib import Path

MODEL = re.compile(r"^Model:\s*(.+)$", re.MULTILINE)


def names() -> list[str]:
    """One name a GPU of NVIDIA's driver; none where CUDA_VISIBLE_DEVICES hides them."""
    pages = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    found = [one[1].strip() if (one := MODEL.search(page.read_text())) else "GPU" for page in pages]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    count = len([one for one in visible.split(",") if one.strip() and one.strip() != "-1"])
    return found[:count]
