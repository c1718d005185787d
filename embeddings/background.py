"""What a picture's background looks like: the tones along its borders (a background prior, as in
Wei et al., "Geodesic saliency using background priors", ECCV 2012), and how unlike them pixels are.

Several tones per border: a belt has light links and dark gaps, and one wide distribution of both
would hold every colour between them, and white. How far a tone reaches along the borders tells the
background, which goes all round, from neighbours that the picture cuts off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.images import Pixels

_BORDER = 0.06  # width of the border bands, as a share of the picture's sides
_TONES, _ROUNDS = 3, 10  # clusters of colours along a border, rounds of k-means
_SAMPLE = 400  # pixels of a border, about
_NOISE = 0.02  # share of a border under which a cluster says nothing
_ALIKE = 11.3  # squared distance in spreads: 99 % of a tone's own colours lie nearer
_OTHER = 400.0  # the same, from which a colour is another one in any case
_DIMMED, _ALIKE_CHROMA = (0.55, 0.96), 5.0  # cube roots of light that a shadow leaves; 8 bits
_STRETCHES = 12  # of each border
_PRESENT, _EVERY = 0.1, 3  # of a stretch, from which a tone is there; of its pixels, one in

# CIELAB with OpenCV's 8 bits: lightness and both chromas are this and a multiple of the cube root
# of light (but where next to none is left), so that light is taken off all three alike.
DARKEST = np.array([-40.8, 128.0, 128.0], np.float32)


@dataclass(frozen=True)
class Tone:
    """A cluster of colours along one border: its share of the border, mean, and the (3, 3)
    matrix that makes a unit of its spread in every direction."""

    border: int
    share: float
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]

    def squared_distances(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) squared Mahalanobis distances of (3, N) colours."""
        white = self.whitening.T @ planes
        white -= (self.mean @ self.whitening)[:, None]
        return np.asarray(np.einsum("cn,cn->n", white, white))

    def like(self, other: Tone) -> bool:
        """Whether the other's mean is one of its own colours."""
        return float(self.squared_distances(other.mean[:, None])[0]) <= _ALIKE

    def shades(self, other: Tone) -> bool:
        """Whether it is the other in shadow."""
        own, lit = self.mean - DARKEST, other.mean - DARKEST
        dimmed = float(own[0] / lit[0])
        alike = float(np.abs(own - dimmed * lit).max()) <= _ALIKE_CHROMA
        return _DIMMED[0] <= dimmed <= _DIMMED[1] and alike


def lab(image: Pixels, blur: float) -> NDArray[np.float32]:
    """(H, W, 3) CIELAB of an RGB picture, in OpenCV's 0 to 255."""
    smooth = cv2.GaussianBlur(image, (0, 0), blur)
    return np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB), np.float32)


def lab_borders(image: Pixels, blur: float) -> NDArray[np.float32]:
    """`lab` along the borders; what lies between them isn't asked for, and is zero."""
    colours = np.zeros(image.shape, np.float32)
    for band in border_bands(image.shape[:2]):
        rows, columns = (
            range(side)[part] for part, side in zip(band, image.shape[:2], strict=True)
        )
        # A blur of 0.8 px reaches 2 px.
        top, left = max(0, rows[0] - 2), max(0, columns[0] - 2)
        near = lab(image[top : rows[-1] + 3, left : columns[-1] + 3], blur)
        colours[band] = near[rows[0] - top :, columns[0] - left :][: len(rows), : len(columns)]
    return colours


def unlike(colours: NDArray[np.float32], tones: Sequence[Tone]) -> NDArray[np.float32]:
    """(H, W) log distance of (H, W, 3) colours to the nearest tone of the background.

    Distances from which no pixel is background are all the same, or the two classes would be the
    loud colours and the rest.
    """
    planes = np.ascontiguousarray(colours.reshape(-1, 3).T)
    nearest = np.full(planes.shape[1], np.float32(_OTHER))
    for tone in tones:
        np.minimum(nearest, tone.squared_distances(planes), out=nearest)
    return np.asarray(np.log1p(nearest).reshape(colours.shape[:-1]), np.float32)


def background_tones(colours: NDArray[np.float32]) -> list[Tone]:
    """The tones along the borders of (H, W, 3) colours, less those of a product that touches one:
    rare there, and along no other border."""
    tones = _every_tone(colours)
    return [
        tone
        for tone in tones
        if tone.share >= 1 / _TONES
        or any(other.border != tone.border and other.like(tone) for other in tones)
    ]


def shadow_tones(colours: NDArray[np.float32], tones: Sequence[Tone]) -> list[Tone]:
    """What else there is along the borders that may be some of `tones` in a shadow."""
    means = {tuple(tone.mean) for tone in tones}
    return [
        tone
        for tone in _every_tone(colours)
        if tuple(tone.mean) not in means and any(tone.shades(other) for other in tones)
    ]


def reaches(tones: Sequence[Tone], colours: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) of tones: along what share of the borders, all four together, each is there."""
    stretches = [
        stretch.reshape(-1, 3)[::_EVERY]
        for side, (rows, columns) in enumerate(border_bands(colours.shape[:2]))
        for stretch in np.array_split(colours[rows, columns], _STRETCHES, axis=int(side < 2))
        if stretch.size
    ]
    sizes = np.array([len(stretch) for stretch in stretches])
    planes = np.ascontiguousarray(np.concatenate(stretches).T)
    own = np.stack([tone.squared_distances(planes) <= _ALIKE for tone in tones])
    there = np.add.reduceat(own, np.cumsum(sizes) - sizes, axis=1, dtype=np.int64)
    return np.asarray((there >= _PRESENT * sizes).mean(axis=1))


def border_bands(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Rows and columns along the top, the bottom, the left and the right of an (H, W) picture."""
    rows, columns = (max(2, round(_BORDER * side)) for side in shape)
    every = slice(None)
    return [
        (slice(0, rows), every),
        (slice(-rows, None), every),
        (every, slice(0, columns)),
        (every, slice(-columns, None)),
    ]


def _borders(colours: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [
        colours[rows, columns].reshape(-1, 3) for rows, columns in border_bands(colours.shape[:2])
    ]


def _every_tone(colours: NDArray[np.float32]) -> list[Tone]:
    return _tones([band[:: max(1, len(band) // _SAMPLE)] for band in _borders(colours)])


def _tones(bands: list[NDArray[np.float32]]) -> list[Tone]:
    """Cluster the (N, 3) colours of each border."""
    found = []
    for border, band in enumerate(bands):
        label = _clustered(band)
        parts = [band[label == i] for i in range(_TONES)]
        found += [
            Tone(border, len(part) / len(band), part.mean(axis=0), _whitening(part))
            for part in parts
            if len(part) >= max(2, _NOISE * len(band))
        ]
    return found


def _clustered(band: NDArray[np.float32]) -> NDArray[np.int32]:
    """(N,) cluster of each colour, by k-means (Lloyd 1982) from equal parts by lightness."""
    rank = np.empty(len(band), np.int32)
    rank[np.argsort(band[:, 0], kind="stable")] = np.arange(len(band))
    label = (rank * _TONES // len(band))[:, None]
    stop = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _ROUNDS, 0.1)
    _, label, _ = cv2.kmeans(
        np.ascontiguousarray(band), _TONES, label, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS
    )
    return np.asarray(label[:, 0], np.int32)


def _whitening(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    # 3 grey levels of noise keep the distribution of a uniform border finite.
    spread = np.cov(colours, rowvar=False) + 9.0 * np.eye(3)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(spread)), np.float32)
