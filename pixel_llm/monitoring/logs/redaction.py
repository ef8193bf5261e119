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
    r"(?:(?:^|_)(?:(?:access|account|api|encryption|private|secret|signing|ssh)_?keys?|auth|authorization|bearer|"
    r"connection_string|cookies?|credentials?|dsn|headers?|jwts?|otp|pwd|session(?:_?id)?)|"
    r"passphrase|passwd|passwords?|secrets?|token)"
    # What may follow, and changes nothing. One digit at a time: many could be parted in too many ways.
    r"(?:_?(?:b64|base64|digest|hash|hashed|header|plain|raw|string|text|value|\d))*$"
)
#: What people ask and get, unless it is only counted.
_CONTENT = re.compile(r"(?:^|_)(?:prompts?|captions?|images?|pictures?|photos?|pixels|base64|messages|completion)$")

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[\w=-]+)*,[A-Za-z0-9+/=_%-]{16,}")
_USER = re.compile(r"(?<=://)[^\s/?#\"'<>]+@")
_PARAMETER = re.compile(r"(?<=[?&;])([\w.%\[\]-]{1,100})=[^&#;\s\"'<>]+")
#: HTTP's header, as such or in a map, a list of pairs or their JSON: the name, and all of its value up to a quote that
#: ends it. Without quotes that is a word behind a scheme that is known, else two, and those that follow a comma.
_WORD = r"""(?:[^\s"'=]|="[^"\n]*+"|=)++"""
_HEADER = re.compile(
    rf"""
    (authorization (?: \\*+["'][ \t]*+[:,] | [ \t]*+[:=] ) [ \t]*+ (?: b?\\*+["'] )?+)
    (?! (?: \[redacted\] | none | null ) (?: [^\w.~+/=-] | $ ) )
    (?:
        (?<= \\["'] ) [^"'\\\n]++
      | (?<= [^\\]" ) (?: [^"\\\n] | \\. )++
      | (?<= [^\\]' ) (?: [^'\\\n] | \\. )++
      | (?<! ["'] ) (?: (?:basic|bearer)[ \t]++{_WORD} | {_WORD}(?:[ \t]++{_WORD})?+ ) (?: (?<=,)[ \t]++{_WORD} )*+
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SCHEME = re.compile(r"(?:basic|bearer)[ \t]+(?=\S)", re.IGNORECASE)

#: The same anywhere else: "basic authentication" and "the bearer of this" are none. Lookaheads are bounded, here and
#: below, so that a text takes time by its length.
_LOGIN = re.compile(
    r"\b((?i:bearer)|(?i:basic)(?= ++[\w.~+/=-]{6})) ++"
    r"(?=[\w.~+/=-]{0,64}?(?:[\d=_]|[a-z][A-Z]|[A-Za-z]{20})|[A-Z]{15})[\w.~+/=-]{4,}"
)
#: As OpenAI and those who follow it write keys: sk-proj-…, sk-lm-…:…; words in small letters are none.
_KEY = re.compile(r"\bsk-(?=[\w:-]{0,32}?(?:[\dA-Z]|[a-z]{20}))[\w:-]{8,}")


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
    text = text.lower()
    return (
        "data:" in text
        or "://" in text
        or "?" in text
        or "earer" in text
        or "asic " in text
        or "authorization" in text
        or "sk-" in text
    )


def redacted_text(text: str) -> str:
    """
    *text* with pictures told by their size, and without secrets that show.

    These are names and passwords in URLs, their parameters with the names of secrets, what follows "Authorization:",
    what follows "Bearer" and "Basic" and is no prose, and keys that begin with "sk-".
    """
    text = _DATA_URI.sub(_size_of_data, text)
    text = _USER.sub(f"{REDACTED}@", text)
    text = _PARAMETER.sub(_parameter, text)
    text = _HEADER.sub(_header, text)
    return _KEY.sub(f"sk-{REDACTED}", _LOGIN.sub(rf"\1 {REDACTED}", text))


def _size_of_data(match: re.Match[str]) -> str:
    return f"data:{match[1] or ''},<{len(match[0])} characters>"


def _header(match: re.Match[str]) -> str:
    scheme = _SCHEME.match(match[0], len(match[1]))
    return f"{match[1]}{scheme[0] if scheme else ''}{REDACTED}"


def _parameter(match: re.Match[str]) -> str:
    return f"{match[1]}={REDACTED}" if is_redacted(match[1], str, True) else match[0]
