"""Cell, tissue and WSI patches: every stored spelling to arrays, lazily, and back."""

from cellnet_sd.components.images.decode import Frame, decode, detect_frame, encode, misfits
from cellnet_sd.components.images.lazy import patch_array, patch_stack_element, stack_image, whole_image, wsi_element

__all__ = [
    "Frame",
    "decode",
    "detect_frame",
    "encode",
    "misfits",
    "patch_array",
    "patch_stack_element",
    "stack_image",
    "whole_image",
    "wsi_element",
]
