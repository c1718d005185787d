"""Everything `gallery` can raise on purpose.

    GalleryError
    ├── NotAGallery           the folder is none, or nothing is published in it yet
    ├── GalleryExists         a new gallery was asked for where there is one
    ├── GalleryBusy           another process writes to this gallery
    ├── DamagedGallery        bytes that are not what was written; names the file
    ├── UnsupportedFormat     written by a version that this one doesn't read
    ├── StorageError          the disk refused: full, read-only, gone
    ├── SourceError           what should be imported can't be understood; names file and row
    ├── WorkerLost            a process that made shards was killed
    ├── EmptyCatalog          there is no reference to build from
    ├── UnknownProduct        no such product in this build
    ├── UnknownBuild          no such build in this gallery
    ├── UnknownCalibration    no such calibration in this gallery
    ├── NoDelta               what is pending can't be served without a rebuild
    └── GateFailed            a candidate build was not good enough to publish

`code` is the stable, machine-readable name that JSON output carries.
"""

from __future__ import annotations


class GalleryError(Exception):
    code = "gallery_error"


class NotAGallery(GalleryError):
    code = "not_a_gallery"


class GalleryExists(GalleryError):
    code = "gallery_exists"


class GalleryBusy(GalleryError):
    code = "gallery_busy"


class DamagedGallery(GalleryError):
    code = "damaged_gallery"


class UnsupportedFormat(GalleryError):
    code = "unsupported_format"


class StorageError(GalleryError):
    code = "storage_error"


class SourceError(GalleryError):
    code = "source_error"


class WorkerLost(GalleryError):
    code = "worker_lost"


class EmptyCatalog(GalleryError):
    code = "empty_catalog"


class UnknownProduct(GalleryError):
    code = "unknown_product"


class UnknownBuild(GalleryError):
    code = "unknown_build"


class UnknownCalibration(GalleryError):
    code = "unknown_calibration"


class NoDelta(GalleryError):
    code = "no_delta"


class GateFailed(GalleryError):
    code = "gate_failed"
