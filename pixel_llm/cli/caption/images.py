"""From what was typed to the images that are meant: files, folders, patterns, lists of them, standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

#: Files in a folder that are taken to be images. A file that is named itself is read whatever it is called.
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

#: What stands for standard input.
STANDARD_INPUT = "-"


def find_images(operands: Iterable[str], files_from: str | None) -> list[str]:
    """
    The images, each once, in the order in which they are named; those of a folder by name.

    Args:
        operands: Paths, folders (with all folders in them, hidden ones aside), patterns such as ``photos/**/*.jpg``,
            or ``-`` for an image on standard input.
        files_from: A file with one path a line, or ``-`` for standard input.

    Raises:
        UsageError: If a folder, a pattern or the list has no images, or there is nothing at all.
    """
    named = [*operands]
    if files_from is not None:
        if files_from == STANDARD_INPUT and STANDARD_INPUT in named:
            raise click.UsageError("standard input can't be an image and a list of images at once")
        named += _listed(files_from)
    if not named:
        raise click.UsageError("name at least one image, folder or pattern, or a list of them with --files-from")
    return list(dict.fromkeys(image for name in named for image in _meant(name)))


def _listed(files_from: str) -> list[str]:
    try:
        stream = sys.stdin.buffer if files_from == STANDARD_INPUT else None
        content = stream.read() if stream is not None else Path(files_from).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--files-from {files_from}: cannot be read ({error.strerror})") from None
    lines = [line.rstrip("\r") for line in content.decode("utf-8", "surrogateescape").split("\n")]
    listed = [line for line in lines if line.strip()]
    if not listed:
        raise click.UsageError(f"--files-from {files_from}: lists no images")
    return listed


def _meant(name: str) -> Iterator[str]:
    path = Path(name)
    if name != STANDARD_INPUT and path.is_dir():
        found = sorted(str(file) for file in _images_in(path))
        if not found:
            raise click.UsageError(f"{name}: there is no image in this folder, by the names of its files")
        yield from found
    elif glob.has_magic(name) and not path.exists():
        found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())  # noqa: PTH207 - Path.glob takes no absolute ones
        if not found:
            raise click.UsageError(f"{name}: matches no file")
        yield from found
    else:
        yield name


def _images_in(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.suffix.lower() in SUFFIXES and file.is_file():
            yield file
