"""
What no record shows: values whose names say that they are secrets, and secrets that show in a text.

Which names those are stands in docs/how-to/logging.md, too.
"""

from __future__ import annotations

import re
from functools import lru_cache

REDACTED = "[redacted]"

# Names are compared in small letters, their words parted by "_": apiKey, API-KEY and api.key are api_key.
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_LETTERS = re.compile(r"[\W_]+")

#: Whatever stands before these, and the same words at the end of a longer one, as in dbpassword.
_SECRET = re.compile(
    r"(?:^|_)(?:(?:access|account|api|encryption|private|secret|signing|ssh)_?keys?|auth|authorization|bearer|"
    r"connection_string|cookies?|credentials?|dsn|headers?|jwts?|otp|pwd|session(?:_?id)?|"
    r"\w*?(?:passphrase|passwd|passwords?|secrets?|token))"
    # What may follow, and changes nothing.
    r"(?:_?(?:b64|base64|digest|hash|hashed|header|plain|raw|string|text|value|\d+))*$"
)
#: What people ask and get, unless it is only counted.
_CONTENT = re.compile(r"(?:^|_)(?:prompts?|captions?|images?|pictures?|photos?|pixels|base64|messages|completion)$")

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[\w=-]+)*,[A-Za-z0-9+/=_%-]{16,}")
_USER = re.compile(r"(?<=://)[^\s/?#\"'<>]+@")
_PARAMETER = re.compile(r"(?<=[?&;])([\w.%\[\]-]{1,100})=[^&#;\s\"'<>]+")
#: As HTTP's Authorization has it; "basic authentication" is none.
_LOGIN = re.compile(r"\b([Bb]earer|BEARER|[Bb]asic|BASIC) +(?=\S*?(?:[\d=_]|[a-z][A-Z]))[\w.~+/=-]{6,}")
#: As OpenAI and those who follow it write keys: sk-proj-…, sk-lm-…:…; words in small letters are none.
_KEY = re.compile(r"\bsk-(?=\S*?[\dA-Z])[\w:-]{12,}")


def is_redacted(name: str, kind: type, content: bool) -> bool:
    """
    True if the value of a field must not be written down.

    Args:
        name: The field's name.
        kind: The value's type. Numbers only count prompts and pictures, and no secret is None, a truth value or a
            fraction, such as the seconds until the first token.
        content: Whether prompts and captions are let through.
    """
    is_secret, is_content = _meaning(name)
    if not (is_secret or is_content) or kind is float or kind is bool or kind is type(None):
        return False
    return is_secret or not (content or kind is int)


@lru_cache(4096)
def _meaning(name: str) -> tuple[bool, bool]:
    name = _NO_LETTERS.sub("_", _NEW_WORD.sub("_", name)).strip("_").lower()
    return _SECRET.search(name) is not None, _CONTENT.search(name) is not None


def may_hold_secrets(text: str) -> bool:
    """True if :func:`redacted_text` is worth its time. This is asked of every text."""
    return (
        "data:" in text
        or "://" in text
        or "?" in text
        or "earer" in text
        or "asic " in text
        or "EARER" in text
        or "sk-" in text
    )


def redacted_text(text: str) -> str:
    """
    *text* with pictures told by their size, and without secrets that show.

    These are names and passwords in URLs, their parameters with the names of secrets, what follows "Bearer" and
    "Basic", and keys that begin with "sk-".
    """
    text = _DATA_URI.sub(_size_of_data, text)
    text = _USER.sub(f"{REDACTED}@", text)
    text = _PARAMETER.sub(_parameter, text)
    return _KEY.sub(f"sk-{REDACTED}", _LOGIN.sub(rf"\1 {REDACTED}", text))


def _size_of_data(match: re.Match[str]) -> str:
    return f"data:{match[1] or ''},<{len(match[0])} characters>"


def _parameter(match: re.Match[str]) -> str:
    return f"{match[1]}={REDACTED}" if is_redacted(match[1], str, True) else match[0]
