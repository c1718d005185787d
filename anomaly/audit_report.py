"""An audit as one self-contained HTML page: each suspect beside the sibling that fits it best."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any

from anomaly.accusation import KINDS
from anomaly.audit import Audit, AuditFinding
from anomaly.overlay import draw_panels
from anomaly.results import AlignmentSummary, Inspection, Picture, Reason
from embeddings.images import printable
from gallery import durable

_PANEL_PX = 230
_QUALITY = 80


def write_audit_report(
    path: Path, audit: Audit, *, title: str, withheld: Collection[AuditFinding] = ()
) -> None:
    """Write the page; everything in it is escaped, nothing is loaded from outside.

    `withheld`: findings whose reference was quarantined. Raises `StorageError`.
    """
    import jinja2

    template = resources.files("anomaly").joinpath("audit_report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    counts = Counter(finding.kind for finding in audit.findings)
    gone = {(finding.product_id, finding.reference_id) for finding in withheld}
    page = environment.from_string(template).render(
        title=title,
        audit=audit,
        counts={kind: counts[kind] for kind in KINDS if counts[kind]},
        rows=[_row(finding, gone) for finding in audit.findings],
    )
    durable.write_file(path, page.encode("utf-8", "backslashreplace"))


def _row(finding: AuditFinding, gone: Collection[tuple[str, str]]) -> dict[str, Any]:
    text = finding.reason
    return {
        "finding": finding,
        "product": printable(finding.product_id),
        "sentence": text[:1].upper() + text[1:] + ("" if text.endswith(("?", ".")) else "."),
        "withheld": (finding.product_id, finding.reference_id) in gone,
        "thumbnail": None if finding.picture is None else _thumbnail(finding, finding.picture),
    }


def _thumbnail(finding: AuditFinding, picture: Picture) -> str:
    """The panels of an inspection: suspect, sibling, evidence, regions; JPEG in base64."""
    from PIL import Image

    status = "aligned" if finding.aligned else "fallback"
    shown = Inspection(
        inspection_id="",
        image=finding.name,
        product_id=finding.product_id,
        product_id_source="claimed",
        verdict="review",
        reason=Reason("audit", finding.reason),
        build="",
        catalog_seq=0,
        config="",
        findings=finding.regions,
        references=finding.siblings,
        alignment=AlignmentSummary(status, next(iter(finding.siblings), None)),  # type: ignore[arg-type]
    )
    data = io.BytesIO()
    panels = draw_panels(shown, picture, panel_px=_PANEL_PX)
    Image.fromarray(panels).save(data, "JPEG", quality=_QUALITY, optimize=True)
    return base64.b64encode(data.getvalue()).decode()
