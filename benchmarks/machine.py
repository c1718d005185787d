"""Where and when a figure was measured, and where results are kept."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "timm", "faiss-cpu", "numpy", "opencv-python-headless", "lmdb", "pillow")


def data_folder() -> Path:
    """The photographs that AMISS_DATA points to; exits with what to do where it doesn't."""
    folder = Path(os.environ.get("AMISS_DATA", ""))
    if not os.environ.get("AMISS_DATA") or not folder.is_dir():
        sys.exit("set AMISS_DATA to the folder that holds cookies/, carton_top/ and grocery/")
    return folder


def machine() -> dict[str, Any]:
    """Processor, cores, system, versions and today's date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }


def save(name: str, command: str, figures: Any) -> None:
    """Write `figures` to benchmarks/results/NAME.json with command and machine, and print them."""
    value = {"command": command, "machine": machine(), "figures": figures}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, "utf-8")
    print(json.dumps(figures, indent=1, ensure_ascii=False))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
