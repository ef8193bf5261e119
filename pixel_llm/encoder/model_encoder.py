"""What encoders with weights have in common: device, numbers, batches, and a description that is measured."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pixel_llm.encoder.backbone import Backbone
from pixel_llm.encoder.batches import Limits, encode_in_batches
from pixel_llm.encoder.description import MAX_CHARACTERS
from pixel_llm.encoder.devices import CPU, choose_device, choose_dtype
from pixel_llm.encoder.patch import PatchEncoder
from pixel_llm.encoder.picture import Picture
from pixel_llm.encoder.protocol import Encoding
from pixel_llm.encoder.torch_errors import translated
from pixel_llm.errors import EncoderError, ErrorCode


class ModelEncoder:
    """
    An encoder with weights. Its features are the model's; its description is measured, as `patch` has it.

    A model's numbers have no words, so none are made up for them; only labels that were given, and that the model
    itself compares with the picture, are told, with their probabilities. Safe to share between threads; passes of
    several threads are not held back, so that each needs its memory.

    Args:
        name: What the policy calls it.
        identity: Everything that decides an encoding, such as the file, its size and its time.
        read: Reads the model; called once, by :meth:`load`.
        device: ``auto`` takes CUDA, else Apple's MPS, else the CPU.
        dtype: ``float32``, ``float16`` (not on the CPU) or ``bfloat16``.
        limits: How much it takes on at once, and what it does when memory runs out.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        read: Callable[[], Backbone],
        *,
        device: str = "auto",
        dtype: str = "float32",
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.identity = f"{name}:{identity}:{dtype}"
        self._read = read
        self._wanted = device, dtype
        self._limits = limits or Limits()
        self._measured = PatchEncoder("cpu")
        self._lock = threading.Lock()
        self._backbone: Backbone | None = None
        self._device = CPU
        self._modules: dict[torch.device, nn.Module] = {}

    def load(self) -> None:
        """
        Choose the device, read the model and try it out. A second call does nothing.

        Raises:
            EncoderError: ERR_ENC_LOAD_FAILED, naming the file and what to do.
        """
        self._loaded()

    def encode(self, picture: Picture) -> Encoding:
        """
        Encode *picture*. Loads first if need be.

        Raises:
            EncoderError: ERR_ENC_OUT_OF_MEMORY, or ERR_ENC_FORWARD_FAILED for whatever else goes wrong.
        """
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures: Sequence[Picture]) -> list[Encoding]:
        """
        Encode *pictures* in batches; see :class:`pixel_llm.encoder.protocol.Encoder` for how equal the results are.

        Raises:
            EncoderError: As :meth:`encode`.
        """
        needed = self._loaded().numbers_each * 4
        return encode_in_batches(
            pictures, lambda picture: picture.pixels.nbytes + needed, self._pass, self._device, self._limits
        )

    def _loaded(self) -> Backbone:
        with self._lock:
            if self._backbone is None:
                device = choose_device(self._wanted[0])
                dtype = choose_dtype(self._wanted[1], device)
                backbone = self._read()
                module = self._tried_out(backbone, device, dtype)
                self._measured.load()
                self._device, self._modules, self._backbone = device, {device: module}, backbone
            return self._backbone

    def _tried_out(self, backbone: Backbone, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """The module on its device. Its first pass finds what does not fit together, and warms up torch."""
        try:
            with translated(self.name), torch.inference_mode():
                module = backbone.module.to(device=device, dtype=dtype)
                trial = backbone.preprocessing.apply([Picture(np.zeros((1, 1, 3), np.uint8))])
                seen = module(trial.to(device=device, dtype=dtype))
                found = [part for part in seen if part is not None]
                if not all(bool(part.isfinite().all()) for part in found):
                    raise EncoderError("it sees NaN or infinity in a black picture: its weights are damaged")
                return module
        except EncoderError as exc:
            if exc.error_code is ErrorCode.ERR_ENC_OUT_OF_MEMORY:
                raise
            raise EncoderError(
                f"the encoder {self.name} does not work: {exc}", error_code=ErrorCode.ERR_ENC_LOAD_FAILED
            ) from exc

    def _pass(self, pictures: Sequence[Picture], device: torch.device) -> list[Encoding]:
        backbone = self._loaded()
        others = f" and {len(pictures) - 1} more" if len(pictures) > 1 else ""
        with translated(f"{pictures[0].source}{others}"), torch.inference_mode():
            module = self._module_on(device)
            dtype = next(module.parameters()).dtype
            seen = module(backbone.preprocessing.apply(pictures).to(device=device, dtype=dtype))
            # On a GPU the pass goes on while this computes; its results are waited for below.
            descriptions = [encoding.description for encoding in self._measured.encode_batch(pictures)]
            features = seen.features.float().cpu()
            if backbone.words is not None and seen.embeddings is not None:
                rows = zip(descriptions, seen.embeddings.float().cpu(), strict=True)
                descriptions = [_joined(text, backbone.words(embedding)) for text, embedding in rows]
        # Each with memory of its own: a view would keep the whole batch as long as one of it is cached.
        return [
            Encoding(features[row : row + 1].clone(), description, backbone.grid)
            for row, description in enumerate(descriptions)
        ]

    def _module_on(self, device: torch.device) -> nn.Module:
        """The model on *device*; a float32 copy on the CPU is made when memory first runs out elsewhere."""
        with self._lock:
            if device not in self._modules:
                self._modules[device] = _copied_to_cpu(self._modules[self._device])
            return self._modules[device]


def _copied_to_cpu(module: nn.Module) -> nn.Module:
    """A float32 copy that takes no memory where *module* is: its tensors are copied straight to the CPU."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to(CPU, torch.float32, copy=True), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to(CPU, torch.float32 if buffer.is_floating_point() else buffer.dtype, copy=True)
    return copy.deepcopy(module, memo)


def _joined(measured: str, words: str) -> str:
    """*words* first: where there are labels, they say most, and must not be what is cut off."""
    if not words:
        return measured
    room = MAX_CHARACTERS - len(words) - 1
    while measured and len(measured) > room:  # sentences at its end go, as in describe()
        measured = measured[: measured.rstrip(".").rfind(". ") + 1]
    return f"{words} {measured}".strip()
