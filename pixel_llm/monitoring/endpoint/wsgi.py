"""The endpoint as a WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias

from pixel_llm.monitoring.endpoint.answers import Answers
from pixel_llm.monitoring.sources import HasSnapshot

#: What servers such as gunicorn call.
WSGIApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def metrics_wsgi_app(policies: HasSnapshot | Iterable[HasSnapshot]) -> WSGIApp:
    """
    A WSGI application with ``/metrics``, ``/snapshot`` and ``/health``, to be mounted wherever it suits.

    It needs no framework, asks nobody for a password, and shows the texts of errors: mount it where only those get who
    may see them.

    Args:
        policies: One or several.

    Raises:
        ValidationError: If something else is passed.
    """
    return wsgi_app(Answers(policies))


def wsgi_app(answers: Answers) -> WSGIApp:
    """A WSGI application that gives *answers*."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD", "GET")
        answer = answers.answer(method, environ.get("PATH_INFO", ""), environ.get("HTTP_ACCEPT_ENCODING", ""))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
        return [] if method == "HEAD" else [answer.body]

    return app
