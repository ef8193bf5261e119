"""What became of one image, in the forms in which it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixel_llm.cli.caption.task import Task
from pixel_llm.cli.terminal import printable
from pixel_llm.errors import classify_error
from pixel_llm.hybrid import BatchItem, CaptionResult


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its caption, or why it has none. Immutable."""

    task: Task
    result: CaptionResult | None = None
    error: Exception | None = None

    @classmethod
    def of(cls, item: BatchItem, task: Task) -> Row:
        """The row of one *item* of a batch, which came of *task*."""
        return cls(task, item.result, item.error)

    @property
    def image(self) -> str:
        """What the image is called."""
        return self.task.image

    @property
    def degraded(self) -> bool:
        """True if a fallback served."""
        return self.result is not None and self.result.degraded

    @property
    def error_code(self) -> str | None:
        """The code of what went wrong, also where a fallback served."""
        error = self.error or (self.result.error if self.result is not None else None)
        return None if error is None else str(classify_error(error).error_code or type(error).__name__)

    def fields(self) -> dict[str, Any]:
        """The row as an object for JSON."""
        result = self.result
        error = self.error or (result.error if result is not None else None)
        return {
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
            "retry_after": getattr(error, "retry_after", None),
            "prompt": self.task.prompt,
            "asked_model": self.task.model,
            "size": self.task.size,
            "modified": self.task.modified,
        }

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
