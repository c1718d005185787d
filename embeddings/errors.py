"""Everything `embeddings` can raise on purpose.

    EmbeddingsError
    ├── ImageError                 an image that can't be used; `.source` names it
    │   ├── EmptyImage             no bytes, or no pixels
    │   ├── NotAnImage             not one of the accepted formats
    │   ├── TruncatedImage         the header reads, the pixels end early or are corrupt
    │   ├── AnimatedImage          more than one frame or page
    │   ├── ImageTooSmall          too few pixels, or too thin, for a reference
    │   ├── ImageTooLarge          over the pixel limit, found before decoding
    │   └── UnsupportedImage       what is no picture, or of samples without agreed meaning as RGB
    ├── MaskError                  a mask that does not fit its image, or is empty
    ├── WeightsError
    │   ├── WeightsNotFound        nothing to load, and no random weights instead
    │   └── WeightsMismatch        a file that is not the weights it should be
    ├── BackboneError              a name or model that can't give patch features
    └── FingerprintMismatch        two sets of vectors that can't be compared

`code` is the stable, machine-readable name that JSON output carries.
"""

from __future__ import annotations


class EmbeddingsError(Exception):
    code = "embeddings_error"


class ImageError(EmbeddingsError):
    """`source` is the path or a description of what was passed."""

    code = "image_error"

    def __init__(self, source: str, message: str) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are made again from their args, of which there is one: the whole text.
        return (type(self), (self.source, str(self).removeprefix(f"{self.source}: ")))


class EmptyImage(ImageError):
    code = "empty_image"


class NotAnImage(ImageError):
    code = "not_an_image"


class TruncatedImage(ImageError):
    code = "truncated_image"


class AnimatedImage(ImageError):
    code = "animated_image"


class ImageTooSmall(ImageError):
    code = "image_too_small"


class ImageTooLarge(ImageError):
    code = "image_too_large"


class UnsupportedImage(ImageError):
    code = "unsupported_image"


class MaskError(EmbeddingsError):
    code = "mask_error"


class WeightsError(EmbeddingsError):
    code = "weights_error"


class WeightsNotFound(WeightsError):
    code = "weights_not_found"


class WeightsMismatch(WeightsError):
    code = "weights_mismatch"


class BackboneError(EmbeddingsError):
    code = "backbone_error"


class FingerprintMismatch(EmbeddingsError):
    code = "fingerprint_mismatch"
