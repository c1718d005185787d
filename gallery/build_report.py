"""The page that says what a build holds and whether it passed: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from gallery import durable
from gallery.gates import GateResult
from gallery.index_choice import IndexChoice
from gallery.manifest import Manifest


def write_report(
    path: Path, manifest: Manifest, gates: Sequence[GateResult], index: IndexChoice
) -> None:
    """Write the report of a build; everything in it is escaped, nothing is loaded from outside."""
    import jinja2

    template = resources.files("gallery").joinpath("build_report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        manifest=manifest,
        gates=gates,
        index=index,
        passed=all(gate.passed for gate in gates),
        data_bytes=sum(int(f["bytes"]) for s in manifest.shards for f in s.files.values()),
    )
    durable.write_file(path, page.encode())
