"""Pixels to vectors. Knows no product, no gallery and no verdict."""

from embeddings.backbones import DEFAULT_BACKBONE, Backbone, BackboneSpec, open_backbone
from embeddings.embedder import DEFAULT_SIZE_PX, Embedder, Embedding, open_embedder
from embeddings.errors import EmbeddingsError, ImageError
from embeddings.fake import FakeBackbone, fake_embedder
from embeddings.fingerprint import EmbeddingFingerprint, ScoringFingerprint
from embeddings.foreground import Foreground, estimate_foreground, given_foreground
from embeddings.images import ImageSource, Mask, Pixels, read_image, read_mask
from embeddings.keypoints import Keypoints, detect_keypoints
from embeddings.patches import PatchGrid, PatchLayer
from embeddings.registration import Registration, register

__all__ = [
    "DEFAULT_BACKBONE",
    "DEFAULT_SIZE_PX",
    "Backbone",
    "BackboneSpec",
    "Embedder",
    "Embedding",
    "EmbeddingFingerprint",
    "EmbeddingsError",
    "FakeBackbone",
    "Foreground",
    "ImageError",
    "ImageSource",
    "Keypoints",
    "Mask",
    "PatchGrid",
    "PatchLayer",
    "Pixels",
    "Registration",
    "ScoringFingerprint",
    "detect_keypoints",
    "estimate_foreground",
    "fake_embedder",
    "given_foreground",
    "open_backbone",
    "open_embedder",
    "read_image",
    "read_mask",
    "register",
]
