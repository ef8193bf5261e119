"""
Plain scalars mean what YAML 1.2's core schema says (yaml.org/spec/1.2.2, section 10.3.2).

What YAML 1.1 would have read differently (``yes``, ``012``, ``1:30``, ``1e3``) is reported,
never guessed: half of the world's editors and servers still read it the other way.
"""

from __future__ import annotations

import math
import re

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_OLD_BOOLEAN = re.compile(r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF")
_OLD_KEYS = {"=": "the default key", "<<": "the merge key"}
_OLD_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_OLD_BINARY = re.compile(r"[-+]?0b[01_]+")
_OLD_HEXADECIMAL = re.compile(r"[-+]0x[0-9a-fA-F_]+|0x[0-9a-fA-F]*_[0-9a-fA-F_]*")
_OLD_GROUPED = re.compile(r"[-+]?([0-9]+_[0-9_]*(\.[0-9_]*)?|([0-9]+\.[0-9]*|\.[0-9]+)_[0-9_]*)([eE][-+][0-9]+)?")
_OLD_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_OLD_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")

#: Numbers of both versions: in YAML 1.1 a float needs a point, and its exponent a sign.
_OLD_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")


class LookAlikeError(ValueError):
    """A plain scalar that YAML 1.1 and YAML 1.2 read differently, or that is no number one can compute with."""


def resolve_plain(text: str) -> object:
    """
    Give the value of an unquoted scalar.

    Raises:
        LookAlikeError: If YAML 1.1 would read *text* as something else.
    """
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] in "+-.0123456789":
        return _number_or_text(text)
    if _OLD_BOOLEAN.fullmatch(text):
        meant = "true" if text.lower() in ("y", "yes", "on") else "false"
        raise LookAlikeError(f'{text} is a boolean in YAML 1.1 and a text in YAML 1.2: write {meant}, or "{text}"')
    if text in _OLD_KEYS:
        raise LookAlikeError(f'{text} is {_OLD_KEYS[text]} in YAML 1.1 and a text in YAML 1.2: write "{text}"')
    return text


def _number_or_text(text: str) -> object:
    _refuse_old_number(text)
    number: float
    if _INTEGER.fullmatch(text):
        number = _bounded_integer(text, 10)
    elif _OCTAL.fullmatch(text):
        number = _bounded_integer(text, 8)
    elif _HEXADECIMAL.fullmatch(text):
        number = _bounded_integer(text, 16)
    elif _FLOAT.fullmatch(text):
        number = _finite(float(text), text)
    elif _SPECIAL_FLOAT.fullmatch(text):
        number = _finite(float(text.replace(".", "")), text)
    else:
        return text
    if not _OLD_NUMBER.fullmatch(text):
        short = _short(text)
        raise LookAlikeError(
            f'{short} is a text in YAML 1.1 and a number in YAML 1.2: write {_plainly(number)}, or "{short}"'
        )
    return number


def _plainly(number: float) -> str:
    """*number* as both versions read it."""
    mantissa, exponent, power = repr(number).partition("e")
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else repr(number)


def _bounded_integer(text: str, base: int) -> int:
    if len(text) > 40:
        raise LookAlikeError(f"the number {_short(text)} has {len(text)} digits")
    return int(text, base)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}…"


def _finite(number: float, text: str) -> float:
    if not math.isfinite(number):
        raise LookAlikeError(f"{_short(text)} is not a finite number")
    return number


def _refuse_old_number(text: str) -> None:
    for pattern, what in (
        (_OLD_OCTAL, "an octal number"),
        (_OLD_BINARY, "a binary number"),
        (_OLD_HEXADECIMAL, "a hexadecimal number"),
        (_OLD_GROUPED, "a number with separators"),
        (_OLD_SEXAGESIMAL, "a number to base 60"),
        (_OLD_DATE, "a date"),
    ):
        if pattern.fullmatch(text):
            short = _short(text)
            raise LookAlikeError(f'{short} is {what} in YAML 1.1 and not in YAML 1.2: write it plainly, or "{short}"')
