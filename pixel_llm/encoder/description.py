"""Writes what was measured as plain English, for a language model to make a caption from."""

from __future__ import annotations

from typing import Final

from pixel_llm.encoder.colours import describe_colours, describe_palette
from pixel_llm.encoder.regions import describe_regions
from pixel_llm.encoder.structure import (
    describe_gradient,
    describe_light,
    describe_lines,
    describe_symmetry,
    describe_texture,
)
from pixel_llm.encoder.view import View

#: The most characters a description may have; sentences at its end are left out if need be.
MAX_CHARACTERS: Final = 900


def describe(view: View) -> str:
    """
    Describe a picture in four to seven sentences, at most MAX_CHARACTERS characters.

    Every statement is measured; the functions that write the sentences give the thresholds. What is not
    clear-cut is left out. Shares are of the picture's area. Deterministic, safe to call from several threads.
    """
    sentences = (
        _describe_size(view),
        describe_colours(view),
        describe_light(view),
        describe_gradient(view) or describe_regions(view),
        describe_lines(view),
        describe_texture(view),
        describe_symmetry(view),
    )
    text = ""
    for sentence in sentences:
        if sentence and len(text) + 1 + len(sentence) <= MAX_CHARACTERS:
            text = f"{text} {sentence}" if text else sentence
    return text


def _describe_size(view: View) -> str:
    width, height = view.size
    form = "square" if width == height else "landscape" if width > height else "portrait"
    palette = describe_palette(view)
    return f"A {form} picture of {width}×{height} pixels{f', {palette}' if palette else ''}."
