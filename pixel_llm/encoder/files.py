"""Image files and streams: their bytes, and no more of them than a picture can have."""

from __future__ import annotations

import os
from typing import Any

from pixel_llm.errors import EncoderError, ErrorCode, PixelLMError, ValidationError
from pixel_llm.validation import validate_file_path
from pixel_llm.validation.complaints import complain

_MEGABYTE = 1024 * 1024
#: The most bytes an encoded image may have; a picture of MAX_PIXELS is smaller than this in any usual format.
MAX_BYTES = 512 * _MEGABYTE

_URLS = ("http://", "https://", "ftp://", "file://", "data:")


def read_path(source: str | os.PathLike[Any]) -> bytes:
    """
    What is in an image file.

    Raises:
        ValidationError: As of :func:`pixel_llm.validation.validate_file_path`, or if it can't be read.
        EncoderError: ERR_ENC_INVALID_INPUT if it has more than MAX_BYTES bytes.
    """
    if isinstance(source, str) and source.lower().startswith(_URLS):
        raise complain(shorten(source), "must be a file (got a URL): fetch it first and pass the bytes")
    name = shorten(os.fsdecode(source)) or "image"
    path = validate_file_path(source, name)
    try:
        check_length(path.stat().st_size, name)
        with path.open("rb") as file:
            return _read_all(file, name)
    except OSError as exc:
        raise complain(name, f"must be readable (got {exc.strerror or exc})", cause=exc) from exc


def read_stream(stream: Any) -> bytes:
    """
    What is left of a binary file object, from where it stands to its end.

    Raises:
        ValidationError: If it is closed, open as text, or at its end.
        EncoderError: ERR_ENC_INVALID_INPUT if there are more than MAX_BYTES bytes.
    """
    name = name_of(stream)
    try:
        content = _read_all(stream, name)
    except PixelLMError:
        raise
    except Exception as exc:  # a file object of others raises anything; text raises ValueError as a closed file does
        raise ValidationError(f"{name}: cannot be read ({shorten(str(exc)) or type(exc).__name__})") from exc
    if not content and (position := _position(stream)):
        raise ValidationError(
            f"{name}: is at its end, after {position} bytes, and has nothing left to read: call seek(0) first",
            error_code=ErrorCode.ERR_VAL_EMPTY_INPUT,
        )
    return content


def name_of(stream: Any) -> str:
    """What to call a file object in messages; one made from a descriptor has a number for a name."""
    name = getattr(stream, "name", None)
    return shorten(os.fsdecode(name)) if isinstance(name, str | bytes) and name else "file object"


def check_length(length: int, name: str) -> None:
    """Refuse more than MAX_BYTES bytes."""
    if length > MAX_BYTES:
        raise EncoderError(
            f"{name}: must have at most {MAX_BYTES // _MEGABYTE} MiB (got more: {length / _MEGABYTE:.0f})",
            error_code=ErrorCode.ERR_ENC_INVALID_INPUT,
        )


def shorten(text: str) -> str:
    """One line, not too long, that can be printed anywhere."""
    line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= 160 else f"{line[:157]}…"


def _read_all(stream: Any, name: str) -> bytes:
    """Piece by piece: a raw stream gives less than it is asked for, and an endless one must not fill the memory."""
    pieces, length = [], 0
    while piece := stream.read(_MEGABYTE):
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise ValidationError(f"{name}: must be open in binary mode (got {type(piece).__name__} from read())")
        pieces.append(bytes(piece))
        length += len(pieces[-1])
        check_length(length, name)
    if piece is None:
        raise ValidationError(f"{name}: must wait for what is not there yet, but is in non-blocking mode")
    return b"".join(pieces)


def _position(stream: Any) -> int:
    try:
        return int(stream.tell())
    except Exception:  # noqa: BLE001 - where it stands only helps the message
        return 0
