"""Damage with pixel truth: what each kind does to a face's print, or to the tray beside it.

Every kind is cut from a seeded field at the level that covers the wanted share of the face, so
`strength` (or `area`) sets the area whatever the shape; the same field gives the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.cuts import crush, hole, scuff, tear
from anomaly.studio.face import Colour, Face, Mask
from anomaly.studio.labels import tear_label
from anomaly.studio.liquids import dirt, stain
from anomaly.studio.wound import Cut, Wound, share_at, spot_inside

# On the print; through the outline; beside the product.
FACE_DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "missing_unit", "wrong_unit", "dirt",
                "peeled_label", "torn_label")  # fmt: skip
LABEL_DAMAGES = ("peeled_label", "torn_label")  # the box shows; the label's white core does
OUTLINE_DAMAGES = ("dent", "open_flap")
DAMAGES = (*FACE_DAMAGES, *OUTLINE_DAMAGES, "spill")


@dataclass(frozen=True)
class Damage:
    """What is wrong and how badly, `strength` above 0 to 1.

    `area` is the share of the face it covers, above 0 to 0.3; without one the strength sets it.
    With a `seed` the damage is the same in every photograph of the face; without one it is drawn
    from the photograph's seed.
    """

    kind: str
    strength: float = 0.6
    seed: int | None = None
    area: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in DAMAGES:
            raise ConfigError(f"damage {self.kind!r}; expected one of {', '.join(DAMAGES)}")
        if not 0 < self.strength <= 1:
            raise ConfigError(f"damage strength {self.strength}; expected above 0, at most 1")
        if self.area is not None and not 0 < self.area <= 0.3:
            raise ConfigError(f"damage area {self.area}; expected above 0, at most 0.3")

    @property
    def share(self) -> float:
        """The share of the face that it covers, about."""
        return share_at(self.strength) if self.area is None else self.area


def damage_face(rng: np.random.Generator, face: Face, *, damage: Damage) -> tuple[Face, Mask]:
    """The face after the damage, and its (h, w) bool truth. Only for `FACE_DAMAGES`."""
    if damage.kind not in FACE_DAMAGES:
        raise ConfigError(f"damage {damage.kind!r} of a face; expected {', '.join(FACE_DAMAGES)}")
    if damage.kind == "missing_unit":
        return _missing_unit(rng, face)
    if damage.kind == "wrong_unit":
        return _wrong_unit(rng, face)
    if damage.kind in LABEL_DAMAGES:
        area = damage.share * float((face.alpha > 0.5).sum())
        return tear_label(rng, face, area=area, split=damage.kind == "torn_label")
    cut, inset, reach = _CUTS[damage.kind]
    solid = face.alpha > 0.5
    area = damage.share * float(solid.sum())
    at = spot_inside(rng, face, inset_px=int(inset * min(face.alpha.shape)))
    # Work in a window that the damage cannot leave: most of a face is not touched.
    half = reach * float(np.sqrt(area / np.pi)) + 24
    left, top = (max(0, int(place - half)) for place in at)
    window = (slice(top, int(at[1] + half)), slice(left, int(at[0] + half)))
    part = Face(face.colour[window], face.alpha[window])
    painted, hurt = cut(rng, part, Wound((at[0] - left, at[1] - top), area, damage.strength))
    colour, truth = face.colour.copy(), np.zeros_like(solid)
    colour[window] = painted.clip(0, 255).astype(np.uint8)
    truth[window] = hurt
    return replace(face, colour=colour), truth & solid


# How each is cut, how far inside the outline it starts (in shorter sides), and how far it reaches
# (in radii of a disc of its area).
_CUTS: dict[str, tuple[Cut, float, float]] = {
    "tear": (tear, 0.22, 3.2),
    "crush": (crush, 0.13, 1.8),
    "hole": (hole, 0.20, 1.9),
    "stain": (stain, 0.18, 2.2),
    "scuff": (scuff, 0.20, 2.2),
    "dirt": (dirt, 0.16, 2.4),
}


def _missing_unit(rng: np.random.Generator, face: Face) -> tuple[Face, Mask]:
    """One unit of a set gone: its place shows the empty card."""
    if not face.units or face.empty is None:
        raise ConfigError("damage 'missing_unit' of a face without units; expected a set's front")
    gone = face.units[int(rng.integers(len(face.units)))]
    colour = np.where(gone[..., None], face.empty, face.colour)
    left = tuple(unit for unit in face.units if unit is not gone)
    return replace(face, colour=colour, units=left), gone


def _wrong_unit(rng: np.random.Generator, face: Face) -> tuple[Face, Mask]:
    """One unit of a set replaced by another product's."""
    if not face.swaps:
        raise ConfigError("damage 'wrong_unit' of a face without units; expected a set's front")
    other = face.swaps[int(rng.integers(len(face.swaps)))]
    place = int(rng.integers(len(face.units)))
    changed = np.asarray(face.units[place] | other.units[place], dtype=np.bool_)
    colour = np.where(changed[..., None], other.colour, face.colour)
    return replace(face, colour=colour), changed


def as_print(
    rng: np.random.Generator, sheet: Colour, *, kinds: tuple[str, ...], area: float | None = None
) -> Colour:
    """The sheet with damages printed on it, as art on a pristine product."""
    face = Face(sheet, np.ones(sheet.shape[:2], np.float32))
    for kind in kinds:
        face, _ = damage_face(rng, face, damage=Damage(kind, 0.55, area=area))
    return face.colour
