import threading

import numpy as np
import pytest
import torch
from drawings import disc, landscape

from pixel_llm.encoder import CachedEncoder, Encoding, EncodingCache, PatchEncoder, build_encoder, load_image
from pixel_llm.errors import EncoderError
from pixel_llm.policy import EncoderCacheConfig, EncoderConfig


class Counting:
    """Passes everything on to a patch encoder, and counts."""

    name = "counting"

    def __init__(self, identity="one"):
        self.identity = identity
        self.encoder = PatchEncoder("cpu")
        self.batches = []

    def load(self):
        self.encoder.load()

    def encode(self, picture):
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures):
        self.batches.append(len(pictures))
        return self.encoder.encode_batch(pictures)


def pictures(count):
    return [load_image(np.full((8, 8), shade, np.uint8)) for shade in range(count)]


class TestCachedEncoder:
    def test_hit_costs_no_pass(self):
        """
        Equal pixels are one picture, whatever file they came from.
        """
        inner = Counting()
        encoder = CachedEncoder(inner, EncodingCache(2**20))
        first = encoder.encode(load_image(disc()))

        assert first is encoder.encode(load_image(disc()))
        assert [1] == inner.batches
        assert (1, 1) == (encoder.cache.hits, encoder.cache.misses)

    def test_batch_asks_for_what_is_missing_once(self):
        inner = Counting()
        encoder = CachedEncoder(inner, EncodingCache(2**20))
        many = pictures(6)
        encoder.encode(many[2])
        found = encoder.encode_batch([*many, many[0], many[5]])

        assert [1, 5] == inner.batches
        assert found[0] is found[6]
        assert found[5] is found[7]
        assert [inner.encoder.encode(picture).description for picture in many] == [
            encoding.description for encoding in found[:6]
        ]
        assert [] == encoder.encode_batch([])

    def test_other_encoders_have_other_encodings(self):
        cache = EncodingCache(2**20)
        one, other = Counting("one"), Counting("other")
        for inner in (one, other):
            CachedEncoder(inner, cache).encode(load_image(disc()))

        assert [1] == one.batches == other.batches
        assert 0 == cache.hits

    def test_failures_are_not_kept(self):
        class Failing(Counting):
            def encode_batch(self, pictures):
                self.batches.append(len(pictures))
                raise EncoderError("no")

        encoder = CachedEncoder(Failing(), EncodingCache(2**20))
        for _ in range(2):
            with pytest.raises(EncoderError):
                encoder.encode(load_image(disc()))

        assert [1, 1] == encoder.encoder.batches

    def test_no_lock_is_held_during_a_pass(self):
        """
        While one thread encodes, others get their hits.
        """
        begun, go_on = threading.Event(), threading.Event()

        class Slow(Counting):
            def encode_batch(self, pictures):
                if self.batches:
                    begun.set()
                    assert go_on.wait(10)
                return super().encode_batch(pictures)

        encoder = CachedEncoder(Slow(), EncodingCache(2**20))
        known, new = pictures(2)
        encoder.encode(known)
        thread = threading.Thread(target=encoder.encode, args=(new,))
        thread.start()
        assert begun.wait(10)
        encoder.encode(known)
        go_on.set()
        thread.join()

        assert 1 == encoder.cache.hits

    def test_many_threads(self):
        encoder = CachedEncoder(Counting(), EncodingCache(20_000))
        many = pictures(12)
        wanted = [encoder.encoder.encode(picture).description for picture in many]
        wrong = []

        def run(seed):
            order = np.random.default_rng(seed).permutation(12)
            found = encoder.encode_batch([many[place] for place in order])
            wrong.extend(place for place, got in zip(order, found, strict=True) if got.description != wanted[place])

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [] == wrong
        assert encoder.cache.taken <= 20_000


class TestEncodingCache:
    def encoding(self, numbers):
        return Encoding(torch.zeros(1, 1, numbers), "A picture.", (1, 1))

    def test_is_bounded_by_bytes(self):
        """
        What was unused for longest goes.
        """
        cache = EncodingCache(16_000)  # three entries of 4,000 bytes, and what belongs to each
        many = pictures(4)
        for picture in many[:2]:
            cache.put(picture, "one", self.encoding(1000))
        assert cache.get(many[0], "one") is not None
        for picture in many[2:]:
            cache.put(picture, "one", self.encoding(1000))

        assert cache.taken <= 16_000
        assert [True, False, True, True] == [cache.get(picture, "one") is not None for picture in many]

    def test_what_is_larger_than_all_of_it_is_not_kept(self):
        cache = EncodingCache(3000)
        cache.put(pictures(1)[0], "one", self.encoding(1000))

        assert cache.get(pictures(1)[0], "one") is None
        assert 0 == cache.taken


class TestPolicy:
    def test_by_default_there_is_a_cache(self):
        encoder = build_encoder(EncoderConfig(device="cpu"))

        assert isinstance(encoder, CachedEncoder)
        assert "patch" == encoder.name
        assert encoder.encoder.identity == encoder.identity
        assert encoder.encode(load_image(landscape())) is encoder.encode(load_image(landscape()))

    def test_size_zero_keeps_none(self):
        encoder = build_encoder(EncoderConfig(device="cpu", cache=EncoderCacheConfig(max_bytes=0)))

        assert isinstance(encoder, PatchEncoder)
