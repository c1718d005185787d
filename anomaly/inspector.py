"""`Inspector`: a gallery, open for inspecting pictures against its published build.

Safe to share between threads. It follows CURRENT: a build or delta that is published under it
serves the next inspection; inspections under way end with what they began with.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.answer import Request
from anomaly.builder import embedder_for
from anomaly.calibration import Rates, check_rates, current_calibration, rates_of
from anomaly.config import InspectConfig, inspect_config
from anomaly.errors import ArgumentError, ViewsError
from anomaly.inspection import identify_picture, inspect_picture
from anomaly.item import ItemInspection, agreed_product, decide_item
from anomaly.pipeline import StageClock
from anomaly.results import Inspection, Unreadable
from anomaly.serving import Serving
from embeddings.embedder import Embedder
from embeddings.errors import EmbeddingsError
from embeddings.images import (
    ImageSource,
    Mask,
    Pixels,
    is_picture,
    printable,
    read_image,
    read_mask,
)
from embeddings.threads import limit_threads, one_blas_thread
from gallery.errors import GalleryError
from gallery.identify import Identification
from gallery.reader import Gallery


@dataclass
class _Held:
    """A build that serves, and how many inspections are at work in it."""

    serving: Serving
    users: int = 0
    retired: bool = False


class Inspector:
    """See `Inspector.open`. Final; may be pickled, and then opens anew."""

    def __init__(self, root: Path, config: InspectConfig) -> None:
        """Use `open`."""
        self._root, self._config = root, config
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._held: _Held | None = None
        self._holds_blas = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        threads: int | None = None,
        budget: float | None = None,
        review: float | None = None,
    ) -> Inspector:
        """Open the gallery at `path` and the embedder it was built with.

        `threads` sets torch's and OpenCV's threads for the whole process (default: as they are);
        `budget` is the share of pristine pictures that may be called damaged, `review` the wider
        one that may be damaged or for a person to look at; by default those of the calibration
        that CURRENT names, else 0.01 and no review band. Until `close`, numpy's BLAS has one thread
        in the whole process (if opened by its main thread). Raises `NotAGallery`, `DamagedGallery`,
        `FingerprintMismatch`, `ConfigError`.
        """
        given = {"device": device, "threads": threads, "budget": budget, "review": review}
        config = inspect_config(given=given)
        if config.threads is not None:
            limit_threads(config.threads)
        inspector = cls(Path(path), config)
        with inspector._lock:
            serving = inspector._follow().serving
        check_rates(rates_of(config, serving.calibration).budget, config.review)
        # OpenBLAS takes no such wish from threads that were started later.
        one_blas_thread.__enter__()
        inspector._holds_blas = True
        return inspector

    def inspect(
        self,
        image: ImageSource,
        *,
        product_id: str | None = None,
        mask: ImageSource | None = None,
        name: str | None = None,
        picture: bool = False,
    ) -> Inspection:
        """The verdict on one picture: a path, bytes, an ndarray or a PIL image.

        Without `product_id` the product is identified first; a claimed one is reported as the
        gallery spells it. `mask`: white, or True, where the product is. `name`: what the result
        calls the picture; its path by default. `picture`: keep what overlays are drawn from. Raises
        `ImageError`, `MaskError`, `ArgumentError`, `DamagedGallery`.
        """
        _require_id(product_id)
        clock = StageClock()
        with clock("read"):
            pixels = read_image(image)
            size = (pixels.shape[0], pixels.shape[1])
            marked = None if mask is None else read_mask(mask, size=size)
        with self._serving() as serving, one_blas_thread:
            rates = rates_of(self._config, serving.calibration)
            called = _name(image) if name is None else name
            request = _request(pixels, called, product_id, marked, rates, picture)
            return inspect_picture(request, serving, clock=clock)

    def identify(
        self, image: ImageSource, *, mask: ImageSource | None = None, top: int = 5
    ) -> Identification:
        """The `top` products that one picture may show, most alike first, and whether it shows any.

        `mask`: as for `inspect`. The first call for a build takes seconds more: it learns how much
        alike strangers are. Raises `ImageError`, `MaskError`, `DamagedGallery`, `GalleryError`.
        """
        pixels = read_image(image)
        size = (pixels.shape[0], pixels.shape[1])
        marked = None if mask is None else read_mask(mask, size=size)
        with self._serving() as serving, one_blas_thread:
            return identify_picture(pixels, serving, mask=marked, top=top)

    def inspect_views(
        self,
        views: Sequence[ImageSource],
        *,
        product_id: str | None = None,
        name: str | None = None,
        picture: bool = False,
    ) -> ItemInspection:
        """The verdict on one item of which `views` are pictures, all against one build.

        The item's pristine copies are called damaged no more often than the budget says, however
        many views there are (`anomaly.item`): each is inspected at its share. Without
        `product_id` the item is what most views show, and the others are inspected as that. A
        view that can't be read or compared leaves an item unfinished, never `ok`. `name`: what
        the result calls the item; its first view by default. Raises `ViewsError` without views,
        `ArgumentError` for a picture by itself or an ID that is no text.
        """
        _require_several(views)
        _require_id(product_id)
        if not views:
            raise ViewsError("an item of no views; give at least one picture of it")
        with self._serving() as serving, one_blas_thread:
            rates = rates_of(self._config, serving.calibration)

            def look(view: ImageSource, claim: str | None) -> Inspection | Unreadable:
                clock = StageClock()
                try:
                    with clock("read"):
                        pixels = read_image(view)
                    share = rates.shared(len(views))
                    request = _request(pixels, _name(view), claim, None, share, picture)
                    return inspect_picture(request, serving, clock=clock)
                except (EmbeddingsError, GalleryError) as error:
                    return Unreadable(_name(view), error.code, str(error))

            found = [look(view, product_id) for view in views]
            agreed = agreed_product(found) or product_id  # a claim as the gallery spells it
            if agreed is not None:
                found = [
                    look(view, agreed)
                    if isinstance(seen, Inspection) and seen.product_id != agreed
                    else seen
                    for view, seen in zip(views, found, strict=True)
                ]
        return decide_item(
            found, item=_name(views[0]) if name is None else name, product_id=agreed,
            claimed=product_id is not None, budget=rates.budget,
        )  # fmt: skip

    def inspect_many(
        self,
        images: Iterable[ImageSource],
        *,
        product_id: str | None = None,
        workers: int = 1,
        picture: bool = False,
    ) -> Iterator[Inspection | Unreadable]:
        """Results in the order of `images`; a picture that can't be inspected doesn't stop the
        others. At most `2 * workers` pictures are in memory. Raises `ArgumentError` for a picture
        by itself or an ID that is no text."""
        _require_several(images)
        _require_id(product_id)

        def one(image: ImageSource) -> Inspection | Unreadable:
            try:
                return self.inspect(image, product_id=product_id, picture=picture)
            except (EmbeddingsError, GalleryError) as error:
                return Unreadable(_name(image), error.code, str(error))

        return map(one, images) if workers == 1 else _pooled(one, images, workers)

    @property
    def objection(self) -> str | None:
        """Why the scores of the calibration in force are not used (its rates are): it wants to be
        made anew. None: they are, or there is none."""
        with self._serving() as serving:
            return serving.objection

    @property
    def build_id(self) -> str:
        """The build that serves now."""
        with self._serving() as serving:
            return serving.gallery.build_id

    def close(self) -> None:
        """Let go of the gallery; a later inspection opens it again."""
        with self._lock:
            self._retire()
            self._seen = None
            if self._holds_blas:
                one_blas_thread.__exit__()
                self._holds_blas = False

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self._root, "config": self._config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"], state["config"])  # type: ignore[misc]

    @contextmanager
    def _serving(self) -> Iterator[Serving]:
        with self._lock:
            held = self._follow()
            held.users += 1
        try:
            yield held.serving
        finally:
            with self._lock:
                held.users -= 1
                if held.retired and held.users == 0:
                    held.serving.close()

    def _follow(self) -> _Held:
        """The build that CURRENT names, opened if it changed. Called with the lock held."""
        seen = _look_at(self._root / "CURRENT")
        if self._held is not None and seen is not None and seen == self._seen:
            return self._held
        gallery = Gallery.open(self._root)  # which looks again where a build was just pruned
        try:
            embedder = self._embedder(gallery)
            calibration = current_calibration(self._root)
        except BaseException:
            gallery.close()
            raise
        self._retire()
        serving = Serving(gallery, embedder, calibration=calibration)
        self._held, self._seen = _Held(serving), seen
        return self._held

    def _embedder(self, gallery: Gallery) -> Embedder:
        """The embedder in use where it fits the build, else the one that does."""
        if self._held is not None:
            old = self._held.serving
            if old.gallery.fingerprint == gallery.fingerprint:
                return old.embedder
        return embedder_for(gallery, device=self._config.device)

    def _retire(self) -> None:
        if self._held is not None:
            self._held.retired = True
            if self._held.users == 0:
                self._held.serving.close()
            self._held = None


def _pooled(
    one: Callable[[ImageSource], Inspection | Unreadable],
    images: Iterable[ImageSource],
    workers: int,
) -> Iterator[Inspection | Unreadable]:
    """`map` over threads, in order."""
    waiting: deque[Future[Inspection | Unreadable]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for image in images:
            waiting.append(pool.submit(one, image))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _require_several(pictures: Iterable[ImageSource]) -> None:
    """A picture by itself would be read letter by letter, byte by byte or row by row."""
    if is_picture(pictures):
        raise ArgumentError(
            f"{_name(pictures)}: one picture by itself; give a list of pictures, or use `inspect`"
        )


def _require_id(product_id: str | None) -> None:
    if not isinstance(product_id, str | None):
        raise ArgumentError(
            f"product_id is {product_id!r}, of type {type(product_id).__name__}; give the ID of "
            "the one product that is claimed, a str, or None to identify it"
        )


def _look_at(path: Path) -> tuple[int, int, int] | None:
    """What changes when a pointer is replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _request(
    pixels: Pixels,
    name: str,
    product_id: str | None,
    mask: Mask | None,
    rates: Rates,
    picture: bool,
) -> Request:
    return Request(pixels, name, product_id, mask, rates.budget, picture, rates.review)


def _name(image: ImageSource) -> str:
    if isinstance(image, str | os.PathLike):
        return printable(os.fspath(image))
    if isinstance(image, np.ndarray):
        return f"array {list(image.shape)}"
    return type(image).__name__
