"""From what was typed to the images that are meant: files, folders, patterns, lists of them, standard input."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click

#: What stands for standard input.
STANDARD_INPUT = "-"


@dataclass(slots=True)
class Found:
    """
    What is meant.

    Attributes:
        images: The images, each once.
        complaints: What could not be looked into for more of them.
    """

    images: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def find_images(operands: Iterable[str], files_from: str | None) -> Found:
    """
    The images, each once, in the order in which they are named; those of a folder by name.

    Args:
        operands: Paths, folders (with all folders in them, hidden ones aside), patterns such as ``photos/**/*.jpg``,
            or ``-`` for an image on standard input.
        files_from: A file with one path a line, or with a NUL after each, as ``find -print0`` writes it; or ``-`` for
            standard input.

    Raises:
        UsageError: If a folder, a pattern or the list has no images, a name is empty, or there is nothing at all.
    """
    named = [*operands]
    if "" in named:
        raise click.UsageError("an image needs a name (got an empty one)")
    if files_from is not None:
        if files_from == STANDARD_INPUT and STANDARD_INPUT in named:
            raise click.UsageError("standard input can't be an image and a list of images at once")
        named += _listed(files_from)
    if not named:
        raise click.UsageError("name at least one image, folder or pattern, or a list of them with --files-from")
    found = Found()
    for name in named:
        found.images += _meant(name, found.complaints)
    by_identity: dict[str, str] = {}
    for image in found.images:
        by_identity.setdefault(identity(image), image)
    found.images = [*by_identity.values()]
    return found


def identity(image: str) -> str:
    """What is the same for two spellings of one path, such as ``x.png`` and ``./x.png``."""
    if image == STANDARD_INPUT:
        return image
    folder, name = os.path.split(image)
    # Only where there are links, `..` may lead elsewhere than the text says.
    return os.path.join(os.path.realpath(folder), name) if ".." in folder else os.path.abspath(image)  # noqa: PTH100, PTH118


def _listed(files_from: str) -> list[str]:
    try:
        content = sys.stdin.buffer.read() if files_from == STANDARD_INPUT else Path(files_from).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.UsageError(f"--files-from {files_from}: cannot be read ({reason})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Windows PowerShell's
        content = content.decode("utf-16", "replace").encode()
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    names = text.split("\0") if "\0" in text else [line.rstrip("\r") for line in text.split("\n")]
    listed = [name for name in names if name.strip()]
    if not listed:
        raise click.UsageError(f"--files-from {files_from}: lists no images")
    return listed


def _meant(name: str, complaints: list[str]) -> list[str]:
    """The images that *name* means. What does not exist, or can't be looked at, is an image that can't be read."""
    if name == STANDARD_INPUT:
        return [name]
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir() raises where nobody may look
        before = len(complaints)
        found = _images_in(name, complaints)
        if not found and len(complaints) == before:
            raise click.UsageError(f"{name}: there is no image in this folder, by the names of its files")
        return found
    if glob.has_magic(name) and not os.path.exists(name):  # noqa: PTH110 - the same
        found = sorted(file for file in glob.glob(name, recursive=True) if os.path.isfile(file))  # noqa: PTH113, PTH207 - the same, and Path.glob takes no absolute ones
        if not found:
            raise click.UsageError(f"{name}: matches no file")
        return found
    return [name]


def _images_in(folder: str, complaints: list[str]) -> list[str]:
    """The images in *folder* and all folders in it, linked ones too; each folder is gone through once."""
    from pixel_llm.hybrid.describing import picture_tools  # loads httpx

    suffixes = picture_tools().image_suffixes()
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    linked = [folder]

    def complain(error: OSError) -> None:
        complaints.append(f"{error.filename}: cannot be looked into ({error.strerror})")

    while linked:  # those that are there themselves first: they give their images their names
        for here, folders, files in os.walk(linked.pop(0), onerror=complain):
            status = os.stat(here)  # noqa: PTH116 - of a folder that was just listed
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            paths = [os.path.join(here, name) for name in sorted(folders) if not name.startswith(".")]  # noqa: PTH118
            linked += [path for path in paths if os.path.islink(path)]  # noqa: PTH114
            folders[:] = [os.path.basename(path) for path in paths if not os.path.islink(path)]  # noqa: PTH114, PTH119
            # A link that leads nowhere is an image that can't be read, rather than nothing.
            images = [name for name in files if os.path.splitext(name)[1].lower() in suffixes]  # noqa: PTH122
            found += [os.path.join(here, name) for name in images if not name.startswith(".")]  # noqa: PTH118
    return sorted(str(Path(path)) for path in found)
