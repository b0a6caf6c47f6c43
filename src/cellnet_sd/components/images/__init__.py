"""Cell, tissue and WSI patches: every stored spelling to arrays, lazily, and back."""

from cellnet_sd.components.images.agreement import Agreement
from cellnet_sd.components.images.decode import Frame, decode, detect_frame, encode, misfits, read
from cellnet_sd.components.images.lazy import (
    PatchStack,
    TissuePlace,
    patch_array,
    patch_stack_element,
    stack_image,
    tissue_element,
    whole_image,
    wsi_element,
)
from cellnet_sd.components.images.mosaic import Block, Mosaic, halved, mosaic_array
from cellnet_sd.components.images.spelling import outline_of

__all__ = [
    "Agreement",
    "Block",
    "Frame",
    "Mosaic",
    "PatchStack",
    "TissuePlace",
    "decode",
    "detect_frame",
    "encode",
    "halved",
    "misfits",
    "mosaic_array",
    "outline_of",
    "patch_array",
    "patch_stack_element",
    "read",
    "stack_image",
    "tissue_element",
    "whole_image",
    "wsi_element",
]
