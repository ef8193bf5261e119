"""Rules about what is sent of a picture."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest, own_source
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, key_place, look_up
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.image import ImageFormat
from pixel_llm.policy.sections.lm_studio import Vision, WithoutVision
from pixel_llm.policy.sections.target import SYSTEM_TARGETS

_VISION = ("lm_studio", "vision")
_WITHOUT = ("lm_studio", "without_vision")


def _unused_encoder(loaded: LoadedPolicy) -> Iterator[Finding]:
    config = loaded.config.lm_studio
    if config.vision is not Vision.IMAGE or config.without_vision is WithoutVision.DESCRIPTION:
        return
    own = own_source(loaded)
    paths = [("encoder",), *(("targets", name) for name in SYSTEM_TARGETS if name.startswith("encoder."))]
    for path in paths:
        node = look_up(own, path)
        if node is not None and node.value != {}:
            yield Finding(
                path,
                "has no effect with `vision: image`, which sends the picture itself and never calls the encoder",
                key_place(own, path),
            )


def _unused_without_vision(loaded: LoadedPolicy) -> Iterator[Finding]:
    config = loaded.config.lm_studio
    if config.vision is Vision.DESCRIPTION and is_written(loaded, _WITHOUT):
        yield Finding(
            nearest(loaded, _WITHOUT, _VISION),
            "without_vision has no effect with `vision: description`, which sends no image: leave one of them out",
        )


def _unused_image_settings(loaded: LoadedPolicy) -> Iterator[Finding]:
    own = own_source(loaded)
    path = ("lm_studio", "image")
    node = look_up(own, path)
    if loaded.config.lm_studio.vision is Vision.DESCRIPTION and node is not None and node.value != {}:
        yield Finding(
            path,
            "has no effect with `vision: description`, which never sends the picture itself",
            key_place(own, path),
        )


def _unused_quality(loaded: LoadedPolicy) -> Iterator[Finding]:
    path = ("lm_studio", "image", "quality")
    if loaded.config.lm_studio.image.format is ImageFormat.PNG and is_written(loaded, path):
        yield Finding(
            nearest(loaded, path, ("lm_studio", "image", "format")),
            "quality has no effect with `format: png`, which keeps every pixel: leave one of them out",
        )


RULES = (
    Rule(
        id="PL606",
        name="Encoder settings although only the image is sent",
        severity=ProblemSeverity.NOTE,
        why="With `vision: image` the model sees the picture itself, and the encoder is neither loaded nor called.",
        mend="Leave them out; or send the description too, with `vision: both`, or where the model takes no images, "
        "with `without_vision: description`.",
        bad="lm_studio: {vision: image}\nencoder: {device: cpu}",
        good="lm_studio: {vision: both}\nencoder: {device: cpu}",
        check=_unused_encoder,
    ),
    Rule(
        id="PL608",
        name="Image settings although only the description is sent",
        severity=ProblemSeverity.NOTE,
        why="With `vision: description` the model reads what the encoder says of the picture. No picture is sent that "
        "could have a size, a format or a quality.",
        mend="Leave them out; or send the picture too, with `vision: both`.",
        bad="lm_studio: {vision: description, image: {max_side: 512}}",
        good="lm_studio: {vision: both, image: {max_side: 512}}",
        check=_unused_image_settings,
    ),
    Rule(
        id="PL609",
        name="A quality although pictures are sent as PNG",
        severity=ProblemSeverity.NOTE,
        why="PNG keeps every pixel as it is; only JPEG has a quality.",
        mend="Leave `quality` out, or let `format` be `auto` or `jpeg`.",
        bad="lm_studio: {image: {format: png, quality: 80}}",
        good="lm_studio: {image: {format: jpeg, quality: 80}}",
        check=_unused_quality,
    ),
    Rule(
        id="PL610",
        name="without_vision although no image is sent",
        severity=ProblemSeverity.NOTE,
        why="`without_vision` says what happens when the model turns out to take no images. With `vision: description` "
        "it is never sent one.",
        mend="Leave it out; or send the image, with `vision: both` or `vision: image`.",
        bad="lm_studio: {vision: description, without_vision: description}",
        good="lm_studio: {vision: both, without_vision: description}",
        check=_unused_without_vision,
    ),
)
