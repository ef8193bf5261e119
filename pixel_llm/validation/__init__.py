"""Checks of what comes from outside: tensors, settings, texts, paths. Loads neither torch, PIL nor httpx."""

from pixel_llm.validation.configs import validate_config, validate_encoder_config, validate_lm_studio_config
from pixel_llm.validation.image_tensors import ImageShape, Layout, ValueRange, validate_image_tensor
from pixel_llm.validation.numbers import MAX_BATCH_SIZE, validate_batch_size
from pixel_llm.validation.paths import validate_file_path
from pixel_llm.validation.tensors import validate_tensor
from pixel_llm.validation.texts import sanitize_input

__all__ = [
    "MAX_BATCH_SIZE",
    "ImageShape",
    "Layout",
    "ValueRange",
    "sanitize_input",
    "validate_batch_size",
    "validate_config",
    "validate_encoder_config",
    "validate_file_path",
    "validate_image_tensor",
    "validate_lm_studio_config",
    "validate_tensor",
]
