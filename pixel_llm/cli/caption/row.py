"""What became of one image, in the forms in which it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pixel_llm.cli.terminal import printable
from pixel_llm.errors import classify_error
from pixel_llm.hybrid import BatchItem, CaptionResult


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its caption, or why it has none. Immutable."""

    image: str
    prompt: str
    result: CaptionResult | None = None
    error: Exception | None = None

    @classmethod
    def of(cls, item: BatchItem, image: str, prompt: str) -> Row:
        """The row of one *item* of a batch, whose image was called *image*."""
        return cls(image, prompt, item.result, item.error)

    @property
    def degraded(self) -> bool:
        """True if a fallback served."""
        return self.result is not None and self.result.degraded

    @property
    def error_code(self) -> str | None:
        """The code of what went wrong, also where a fallback served."""
        error = self.error or (self.result.error if self.result is not None else None)
        return None if error is None else str(classify_error(error).error_code or type(error).__name__)

    def as_json(self) -> str:
        """The row as one line of JSON."""
        result = self.result
        error = self.error or (result.error if result is not None else None)
        fields: dict[str, Any] = {
            "image": self.image,
            "caption": result.text if result else None,
            "served_by": result.served_by if result else None,
            "degraded": result.degraded if result else None,
            "attempts": result.attempts if result else getattr(self.error, "attempts", None) or 0,
            "elapsed": round(result.elapsed, 3) if result else None,
            "model": result.model if result else None,
            "endpoint": result.endpoint if result else None,
            "truncated": result.truncated if result else None,
            "error_code": self.error_code,
            "error": str(error) if error is not None else None,
            "prompt": self.prompt,
        }
        # A path that is no Unicode is written with escapes, which read back as the same path.
        text = json.dumps(fields, ensure_ascii=False)
        return text if text.isascii() or _is_unicode(text) else json.dumps(fields)

    def as_text(self, *, named: bool) -> str:
        """The caption as people read it, marked where it is not what was asked for; *named* with its image before."""
        result = self.result
        assert result is not None  # noqa: S101 - errors are told in their own way
        text = printable(result.text, keep_lines=not named)
        return f"{printable(self.image)}: {text}{self.marks()}" if named else f"{text}{self.marks()}"

    def marks(self) -> str:
        """What must be known of the caption beside its words."""
        result = self.result
        if result is None:
            return ""
        mark = f"  [degraded: {result.served_by} in place of {self.error_code}]" if result.degraded else ""
        return f"{mark}{'  [truncated]' if result.truncated else ''}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
