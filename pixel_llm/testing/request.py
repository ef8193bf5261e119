"""A request as the scripted LM Studio sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixel_llm.testing.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One request as it came in. Immutable.

    *path* is without the query. *headers* have lower-case names. *body* is the parsed
    JSON, or the bytes where they are no JSON. The repr leaves out headers and body:
    there may be a key in the one and a picture in the other.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)
    keep_alive: bool = field(default=True, repr=False)

    def answered_by(self, step: Step) -> RecordedRequest:
        """The same request, with the step that answered it."""
        return RecordedRequest(
            method=self.method,
            path=self.path,
            headers=self.headers,
            body=self.body,
            keep_alive=self.keep_alive,
            step=step,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest(Request):
    """A request and the *step* that answered it: one of the script, or the server's own answer."""

    step: Step
