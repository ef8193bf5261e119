"""Encodings that are kept, so that a picture that comes again costs no pass."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

from cachetools import LRUCache

from pixel_llm.encoder.picture import Picture
from pixel_llm.encoder.protocol import Encoder, Encoding

#: What an entry takes beside its tensor's numbers and its text, about: the objects, their headers and the key.
_OVERHEAD = 1024


class EncodingCache:
    """
    Encodings by the picture's pixels and the encoder's identity; beyond its size the one unused for longest goes.

    Safe to share between threads, and between encoders.

    Args:
        max_bytes: Memory for encodings and keys.
    """

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._entries: LRUCache[tuple[str, str], Encoding] = LRUCache(max_bytes, getsizeof=_size_of)
        self.hits = self.misses = 0

    @property
    def taken(self) -> int:
        """Bytes that the entries take, by estimate."""
        return int(self._entries.currsize)

    def get(self, picture: Picture, identity: str) -> Encoding | None:
        """What is kept for *picture*. Its digest is computed when it is first asked for."""
        key = identity, picture.digest
        with self._lock:
            encoding = self._entries.get(key)
            if encoding is None:
                self.misses += 1
            else:
                self.hits += 1
            return encoding

    def put(self, picture: Picture, identity: str, encoding: Encoding) -> None:
        """Keep *encoding*, unless it alone is larger than the cache."""
        key = identity, picture.digest
        with self._lock:
            if _size_of(encoding) <= self._entries.maxsize:
                self._entries[key] = encoding


class CachedEncoder:
    """
    An encoder behind a cache. Safe to share between threads; no lock is held while it encodes.

    Two threads that bring the same new picture at once both encode it.
    """

    def __init__(self, encoder: Encoder, cache: EncodingCache) -> None:
        self.name = encoder.name
        self.encoder = encoder
        self.cache = cache

    @property
    def identity(self) -> str:
        """The encoder's."""
        return self.encoder.identity

    def load(self) -> None:
        """Load the encoder."""
        self.encoder.load()

    def encode(self, picture: Picture) -> Encoding:
        """What is kept for *picture*, else what the encoder says."""
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures: Sequence[Picture]) -> list[Encoding]:
        """The encoder gets what is not kept, each picture once; results in the order of *pictures*."""
        identity = self.encoder.identity
        found = {picture.digest: self.cache.get(picture, identity) for picture in pictures}
        missing = {picture.digest: picture for picture in pictures if found[picture.digest] is None}
        if missing:
            new = self.encoder.encode_batch(list(missing.values()))
            for picture, made in zip(missing.values(), new, strict=True):
                found[picture.digest] = made
                self.cache.put(picture, identity, made)
        return [encoding for picture in pictures if (encoding := found[picture.digest]) is not None]


def _size_of(encoding: Encoding) -> int:
    return encoding.features.nbytes + sys.getsizeof(encoding.description) + _OVERHEAD
