"""One picture that shows why: query | reference | evidence | regions.

Evidence has one fixed scale, 0 to twice the threshold, so that two overlays can be compared. What
was not measured is hatched: it is not zero.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.results import Finding, Inspection, Kind, Picture, Verdict
from gallery import durable

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

VERDICT_COLOURS: dict[Verdict, Colour] = {
    "ok": (46, 160, 87), "review": (224, 152, 22), "damaged": (212, 49, 49),
    "wrong_product": (125, 111, 150), "unknown_product": (125, 111, 150),
    "cannot_compare": (125, 111, 150),
}  # fmt: skip
KIND_COLOURS: dict[Kind, Colour] = {
    "added": (255, 159, 28), "missing": (62, 196, 255), "changed": (255, 105, 180),
    "spill": (198, 241, 53),
}  # fmt: skip
PANEL_PX = 420
_STRIP, _CARD, _TEXT, _FAINT = (17, 20, 24), (34, 38, 44), (255, 255, 255), (168, 176, 186)
_HEAT_SHARE = 0.66  # of the colour that is evidence; the rest is the query in grey
_FULL = 2.0  # multiples of the threshold at the end of the scale
_GAP, _CAPTION, _FOOT = 8, 24, 42
_MOST_LABELS = 12
_REFERENCE = {
    None: "reference", "aligned": "reference, aligned", "fallback": "reference, not aligned",
    "failed": "reference, not aligned",
}  # fmt: skip


@dataclass(frozen=True)
class _Panel:
    """caption above; `pixels` or `absent`, what to say in their place; foot below."""

    caption: str
    pixels: Pixels | None
    absent: str = ""
    foot: str = ""


def draw_overlay(inspection: Inspection, picture: Picture) -> Pixels:
    """(h, w, 3) uint8 RGB: header with verdict and reason over four panels, each <= 420 px wide."""
    panels = draw_panels(inspection, picture)
    header = _header(inspection, width=panels.shape[1])
    return np.concatenate([header, panels])


def draw_panels(inspection: Inspection, picture: Picture, *, panel_px: int = PANEL_PX) -> Pixels:
    """(h, w, 3) uint8 RGB: the four panels alone, each fitted into a square of `panel_px`."""
    query = _fitted(picture.image, panel_px)
    size = query.shape[1], query.shape[0]
    heat = None if picture.heat is None else _heat_of(picture.heat, size)
    evidence = None if heat is None else _evidence(query, heat)
    status = inspection.alignment.status if inspection.alignment else None
    reference = None if picture.reference is None else _fitted(picture.reference, panel_px)
    name = inspection.alignment.reference_id if inspection.alignment else None
    name = name or next(iter(inspection.references), None)
    scale = size[0] / picture.image.shape[1]
    panels = (
        _Panel("query", query, foot=_tail(inspection.image)),
        _Panel(
            _REFERENCE[status], reference,
            "no reference could be read" if inspection.references else "nothing was compared",
            "" if name is None else name[:12],
        ),
        _Panel("evidence", evidence, "nothing was compared"),
        _Panel(_count(inspection.findings), _regions(query, inspection.findings, scale)),
    )  # fmt: skip
    return _laid_out(panels, inspection.findings, heat is not None, panel_px=panel_px)


def write_overlay(path: Path, inspection: Inspection, picture: Picture) -> None:
    """Write `draw_overlay` as PNG, whole or not at all. Raises `StorageError`."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(draw_overlay(inspection, picture)).save(data, "PNG", compress_level=6)
    durable.write_file(path, data.getvalue())


def _laid_out(
    panels: Sequence[_Panel], findings: Sequence[Finding], measured: bool, *, panel_px: int
) -> Pixels:
    height = max(p.pixels.shape[0] for p in panels if p.pixels is not None)
    width = max(p.pixels.shape[1] for p in panels if p.pixels is not None)
    width = min(panel_px, max(width, 210))  # captions and scales want room
    total = len(panels) * (width + _GAP) + _GAP, height + _CAPTION + _FOOT
    canvas = np.full((total[1], total[0], 3), _STRIP, np.uint8)
    lefts = [_GAP + k * (width + _GAP) for k in range(len(panels))]
    for left, panel in zip(lefts, panels, strict=True):
        canvas[_CAPTION : _CAPTION + height, left : left + width] = _CARD
        if panel.pixels is not None:
            h, w = panel.pixels.shape[:2]
            x, y = left + (width - w) // 2, _CAPTION + (height - h) // 2
            canvas[y : y + h, x : x + w] = panel.pixels
    if measured:
        _scale_bar(canvas, left=lefts[2], top=_CAPTION + height + 6, width=width)
    draw, done = _pen(canvas)
    for left, panel in zip(lefts, panels, strict=True):
        _write(draw, (left + 2, 4), panel.caption, room=width, size=13)
        _write(draw, (left + 2, _CAPTION + height + 5), panel.foot, room=width, fill=_FAINT)
        if panel.pixels is None:
            middle = left + width / 2, _CAPTION + height / 2
            text = _shortened(panel.absent, width - 8, size=13)
            draw.text(middle, text, fill=_FAINT, font=_font(13), anchor="mm")
    if measured:
        _scale_text(draw, left=lefts[2], top=_CAPTION + height + 17, width=width)
    _legend(draw, findings, left=lefts[3], top=_CAPTION + height + 6, width=width)
    return done()


def _header(inspection: Inspection, *, width: int) -> Pixels:
    first, rest = _two_lines(inspection.reason.text, width - 2 * _GAP, size=14)
    canvas = np.full((84 if rest else 66, width, 3), _STRIP, np.uint8)
    draw, done = _pen(canvas)
    verdict = inspection.verdict.replace("_", " ").upper()
    right = _GAP + 20 + int(_font(17).getlength(verdict))
    colour = VERDICT_COLOURS[inspection.verdict]
    draw.rounded_rectangle((_GAP, 8, right, 34), radius=5, fill=colour)
    draw.text(((_GAP + right) / 2, 21), verdict, fill=_TEXT, font=_font(17), anchor="mm")
    figures = "   ".join(_figures(inspection))
    room = width - _GAP - _font(14).getlength(figures)
    if figures:
        draw.text((width - _GAP, 21), figures, fill=_TEXT, font=_font(14), anchor="rm")
    product = "no product recognised" if inspection.product_id is None else inspection.product_id
    _write(draw, (right + 12, 11), product, room=int(room - right - 36), size=17)
    for top, text in ((42, first), (60, rest)):
        _write(draw, (_GAP, top), text, room=width - 2 * _GAP, size=14, fill=_FAINT)
    return done()


def _figures(inspection: Inspection) -> Iterable[str]:
    if inspection.score is not None:
        yield f"score {inspection.score:.3g}"
    if inspection.threshold is not None:
        yield f"threshold {inspection.threshold:.3g}"
    if inspection.p_value is not None:
        yield f"p {inspection.p_value:.2g}"


def _count(findings: Sequence[Finding]) -> str:
    return f"regions: {len(findings) or 'none'}"


def _fitted(image: Pixels, side: int) -> Pixels:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _heat_of(heat: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Nearest, so that NaN spreads to no neighbour and no peak is averaged away by one."""
    resized = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.float32)


def _evidence(query: Pixels, heat: NDArray[np.float32]) -> Pixels:
    grey = cv2.cvtColor(query, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    known = np.asarray(np.isfinite(heat))
    shown = _HEAT_SHARE * _coloured(np.where(known, heat, 0)) + (1 - _HEAT_SHARE) * grey
    shown = np.where(known[..., None], shown, _hatched(grey))
    canvas = np.ascontiguousarray(np.clip(shown, 0, 255).astype(np.uint8))
    suspicious = (known & (np.nan_to_num(heat) >= 1)).astype(np.uint8)
    outlines = cv2.findContours(suspicious, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(canvas, outlines, -1, (255, 255, 255), 1)
    return canvas


def _coloured(heat: NDArray[Any]) -> NDArray[np.float32]:
    steps = np.clip(heat * (255 / _FULL), 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[..., ::-1], np.float32)


def _hatched(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light grey with diagonals, where nothing was measured."""
    rows, columns = np.indices(grey.shape[:2])
    line = np.less((rows + columns) % 9, 2)[..., None]
    return np.asarray(np.where(line, 95.0, 150 + 0.25 * grey).repeat(3, axis=2), np.float32)


def _regions(query: Pixels, findings: Sequence[Finding], scale: float) -> Pixels:
    canvas = query.copy()
    ranked = sorted(findings, key=lambda finding: finding.score)  # the highest on top
    boxes = [_box(finding, scale, canvas.shape) for finding in ranked]
    for finding, box in zip(ranked, boxes, strict=True):
        if box is not None:
            cv2.rectangle(canvas, box[:2], box[2:], (0, 0, 0), 4)
            cv2.rectangle(canvas, box[:2], box[2:], KIND_COLOURS[finding.kind], 2)
    draw, done = _pen(canvas)
    taken: list[Box] = []
    for finding, box in list(zip(ranked, boxes, strict=True))[::-1][:_MOST_LABELS]:
        _label(draw, finding, box, taken, canvas.shape)
    return done()


def _box(finding: Finding, scale: float, shape: tuple[int, ...]) -> Box | None:
    """The finding's box in pixels of the panel, closed, both corners inside it."""
    if finding.bbox_px is None:
        return None
    x0, y0, x1, y1 = (edge * scale for edge in finding.bbox_px)
    right, bottom = shape[1] - 1, shape[0] - 1
    left, top = int(np.clip(x0, 0, right)), int(np.clip(y0, 0, bottom))
    return left, top, int(np.clip(x1 - 1, left, right)), int(np.clip(y1 - 1, top, bottom))


def _label(
    draw: Any, finding: Finding, box: Box | None, taken: list[Box], shape: tuple[int, ...]
) -> None:
    """A chip with kind and score beside its box, clear of other chips where there is room."""
    text = f"{finding.kind} {finding.score:.3g}" + ("" if box else ", no place")
    width, height = int(_font(12).getlength(text)) + 8, 16
    x0, y0, x1, y1 = box or (0, shape[0], 0, shape[0])
    places = [(x0, y0 - height - 2), (x0, y1 + 3), (x1 - width, y0 - height - 2), (x0, y0 + 3)]
    places += [(x0, y0 - step * (height + 2)) for step in range(2, _MOST_LABELS)]
    chips: list[Box] = []
    for x, y in places:
        left = max(0, min(x, shape[1] - width - 1))
        top = max(0, min(y, shape[0] - height - 1))
        chips.append((left, top, left + width, top + height))
    chip = next((c for c in chips if not any(_overlap(c, other) for other in taken)), chips[0])
    taken.append(chip)
    draw.rectangle(chip, fill=KIND_COLOURS[finding.kind])
    draw.text(
        (chip[0] + 4, chip[1] + height / 2), text, fill=(0, 0, 0), font=_font(12), anchor="lm"
    )


def _overlap(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _scale_bar(canvas: Pixels, *, left: int, top: int, width: int) -> None:
    """Colours as they look over a middling grey, then a patch of what is not measured."""
    length = _bar_length(width)
    ramp = np.tile(np.linspace(0, _FULL, length, dtype=np.float32), (9, 1))
    canvas[top : top + 9, left : left + length] = _HEAT_SHARE * _coloured(ramp) + 40
    for tick in range(3):
        x = left + round(tick * (length - 1) / 2)
        canvas[top : top + 12, x : x + 1] = 255
    patch = _hatched(np.full((9, 16, 1), 128, np.float32))
    canvas[top : top + 9, left + length + 14 : left + length + 30] = patch


def _bar_length(width: int) -> int:
    return width - 96


def _scale_text(draw: Any, *, left: int, top: int, width: int) -> None:
    length = _bar_length(width)
    threshold = "1 = threshold" if length > 150 else "1 = limit"
    for x, text, anchor in ((0, "0", "la"), (length / 2, threshold, "ma"), (length, "2+", "ra")):
        draw.text((left + x, top + 2), text, fill=_FAINT, font=_font(12), anchor=anchor)
    where = left + length + 14
    draw.text((where, top + 2), "unmeasured", fill=_FAINT, font=_font(12), anchor="la")


def _legend(draw: Any, findings: Sequence[Finding], *, left: int, top: int, width: int) -> None:
    x = left + 2
    for kind in (k for k in KIND_COLOURS if any(f.kind == k for f in findings)):
        draw.rectangle((x, top, x + 9, top + 9), fill=KIND_COLOURS[kind])
        draw.text((x + 13, top + 5), kind, fill=_FAINT, font=_font(12), anchor="lm")
        x += 25 + int(_font(12).getlength(kind))
        if x > left + width - 70:
            x, top = left + 2, top + 17


def _pen(canvas: Pixels) -> tuple[Any, Callable[[], Pixels]]:
    """What draws on a copy of `canvas`, and what returns the copy."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(canvas)
    return ImageDraw.Draw(image), lambda: np.array(image, np.uint8)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)  # ships with Pillow: the same on every machine


def _write(
    draw: Any, at: tuple[int, int], text: str, *, room: int, size: int = 12, fill: Colour = _TEXT
) -> None:
    draw.text(at, _shortened(text, room, size=size), fill=fill, font=_font(size))


def _shortened(text: str, room: int, *, size: int) -> str:
    """As much of one line as fits into `room` pixels."""
    text = _drawn(text[:300])
    if _font(size).getlength(text) <= room:
        return text
    while text and _font(size).getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _two_lines(text: str, room: int, *, size: int) -> tuple[str, str]:
    """As many words as fit into `room` pixels, and the others."""
    words = text[:600].split(" ")
    fits = len(words)
    while fits > 1 and _font(size).getlength(_drawn(" ".join(words[:fits]))) > room:
        fits -= 1
    return " ".join(words[:fits]), " ".join(words[fits:])


def _drawn(text: str) -> str:
    return "".join(_drawable(c) for c in text)


@lru_cache(maxsize=4096)
def _drawable(character: str) -> str:
    """The character; else its base letter; else its number: the font that ships has few more than
    ASCII, and another font would draw other overlays on other machines."""
    base = "".join(c for c in unicodedata.normalize("NFKD", character) if _has_glyph(c))
    if base:
        return base
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _has_glyph(character: str) -> bool:
    if not character.isprintable():
        return False
    drawn, missing = (_font(16).getmask(c) for c in (character, "\U000f0000"))
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


def _tail(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
