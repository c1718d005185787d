"""Everything `benchmarks.datasets` can raise on purpose.

    DatasetError                 `.where` names the file, folder, table row or set
    ├── UnknownSet               a set, or a part of one, that nothing here can read
    ├── BadRequest               shots, seed or limit that can't be asked for
    ├── MissingFile              a file or folder that the layout or a row calls for
    ├── MalformedRow             a row of a table or a line of a file that can't be understood
    ├── MalformedMask            a mask that is not its picture's, or marks nothing
    └── TooFewPictures           fewer than the protocol needs

Pictures are read later than they are listed: a `Sample`'s callables raise `embeddings.ImageError`,
which names the file, for one that can't be decoded.
"""

from __future__ import annotations

import os

from embeddings.images import printable


class DatasetError(Exception):
    """`where` is the file, folder, row or set that the message is about."""

    code = "dataset_error"

    def __init__(self, where: str | os.PathLike[str], message: str) -> None:
        self.where = printable(where)
        super().__init__(f"{self.where}: {message}")


class UnknownSet(DatasetError):
    code = "unknown_set"


class BadRequest(DatasetError):
    code = "bad_request"


class MissingFile(DatasetError):
    code = "missing_file"


class MalformedRow(DatasetError):
    code = "malformed_row"


class MalformedMask(DatasetError):
    code = "malformed_mask"


class TooFewPictures(DatasetError):
    code = "too_few_pictures"
