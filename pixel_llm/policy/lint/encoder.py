"""Rules about the encoder: settings that its type, or another setting, makes useless."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, is_written
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.encoder import Device, EncoderType, OutOfMemoryStep
from pixel_llm.policy.suggestions import one_of

_TYPE = ("encoder", "type")

#: The types that heed a setting, of those that not all do.
_HEEDED_BY = {
    "dtype": (EncoderType.VIT, EncoderType.TRANSFORMERS),
    "checkpoint": (EncoderType.VIT,),
    "heads": (EncoderType.VIT,),
    "normalize": (EncoderType.VIT,),
    "model": (EncoderType.TRANSFORMERS,),
    "labels": (EncoderType.TRANSFORMERS,),
    "label_template": (EncoderType.TRANSFORMERS,),
    "max_labels": (EncoderType.TRANSFORMERS,),
    "min_probability": (EncoderType.TRANSFORMERS,),
}

#: What only says how labels are told.
_ABOUT_LABELS = ("label_template", "max_labels", "min_probability")


def _unheeded(loaded: LoadedPolicy) -> Iterator[Finding]:
    encoder = loaded.config.encoder
    for name, types in _HEEDED_BY.items():
        path = ("encoder", name)
        if not is_written(loaded, path):
            continue
        if encoder.type not in types:
            yield Finding(
                nearest(loaded, path, _TYPE),
                f"{name} has no effect with type {encoder.type}, only with {one_of(types)}: leave it out",
            )
        elif name in _ABOUT_LABELS and encoder.labels is None:
            yield Finding(path, f"{name} has no effect without labels: give some, or leave it out")


def _idle_steps(loaded: LoadedPolicy) -> Iterator[Finding]:
    encoder = loaded.config.encoder
    steps = encoder.on_out_of_memory
    for index, step in enumerate(steps):
        path = ("encoder", "on_out_of_memory", index)
        if OutOfMemoryStep.RAISE in steps[:index]:
            yield Finding(path, f"{step} is never reached: raise ends the list before it")
        elif step in steps[:index]:
            yield Finding(path, f"{step} stands before already, and is tried as often as it helps: leave it out")
        elif step is OutOfMemoryStep.CPU and encoder.device is Device.CPU and is_written(loaded, path):
            yield Finding(nearest(loaded, path, ("encoder", "device")), "cpu can't help where device is cpu already")


RULES = (
    Rule(
        id="PL880",
        name="An encoder setting that its type does not heed",
        severity=ProblemSeverity.WARNING,
        why="Whoever reads it believes that it does something: that labels are compared, or that a checkpoint is used.",
        mend="Leave it out, or take the type that heeds it.",
        bad="encoder: {type: patch, labels: [a dog, a cat]}",
        good="encoder: {type: transformers, model: models/clip, labels: [a dog, a cat]}",
        check=_unheeded,
    ),
    Rule(
        id="PL881",
        name="A step against lack of memory that can't help",
        severity=ProblemSeverity.WARNING,
        why="The steps of `on_out_of_memory` are taken in order, each as often as it helps. What stands after `raise`, "
        "stands twice, or moves to the CPU what is there already, changes nothing.",
        mend="Leave it out.",
        bad="encoder: {on_out_of_memory: [raise, halve]}",
        good="encoder: {on_out_of_memory: [halve, raise]}",
        check=_idle_steps,
    ),
)
