"""The `encoder` section: how features and a description are got from a picture."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.kinds import Choice, FileName, Integer, ListOf, Number, Size, Text
from pixel_llm.policy.settings import Section, setting


class EncoderType(StrEnum):
    """The encoders there are."""

    PATCH = "patch"
    VIT = "vit"
    TRANSFORMERS = "transformers"


class Device(StrEnum):
    """Where the encoder computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Dtype(StrEnum):
    """The numbers that a model computes with."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class Normalization(StrEnum):
    """Mean and standard deviation that a ViT was trained with."""

    IMAGENET = "imagenet"
    HALF = "half"


class OutOfMemoryStep(StrEnum):
    """What can be done when memory runs out."""

    HALVE = "halve"
    CPU = "cpu"
    RAISE = "raise"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderBatchConfig:
    """How many pictures the encoder takes on at once. Immutable, safe to share between threads."""

    max_size: int = setting(Integer(1, 4096), "The most pictures of a batch.", default=16, example=32)
    max_memory: int = setting(
        Size(),
        "The most memory that a batch may need, by an estimate of its pixels and of the largest moment of the pass. A "
        "picture that needs more is a batch of its own.",
        default=256 * 1024 * 1024,
        example="1GiB",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCacheConfig:
    """Which encodings are kept for pictures that come again. Immutable, safe to share between threads."""

    max_bytes: int = setting(
        Size(may_be_zero=True),
        "Memory for encodings; beyond that the one unused for longest goes. 0B keeps none.",
        default=32 * 1024 * 1024,
        example="64MiB",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """The vision encoder. Immutable, safe to share between threads."""

    type: EncoderType = setting(
        Choice(EncoderType),
        "patch measures colours, light, edges and texture patch by patch; it needs no checkpoint. vit gives the "
        "features of a vision transformer, transformers those of CLIP, SigLIP or DINOv2, and what fits of the labels; "
        "descriptions are measured by all three.",
        default=EncoderType.PATCH,
        example="patch",
    )
    device: Device = setting(
        Choice(Device),
        "Where torch computes; auto takes a GPU where there is one.",
        default=Device.AUTO,
        example="auto",
    )
    dtype: Dtype = setting(
        Choice(Dtype),
        "The numbers that a model computes with. float16 needs a GPU; patch has float32 only.",
        default=Dtype.FLOAT32,
        example="bfloat16",
    )
    checkpoint: str | None = setting(
        FileName("the path of a file"),
        "The weights of a vit: a .safetensors file, or one of torch.save that holds nothing but tensors. Relative to "
        "the folder of the file that says it.",
        default=None,
        example="models/vit_base_patch16_224.safetensors",
    )
    heads: int | None = setting(
        Integer(1, 256),
        "The heads of a vit's attention, which no checkpoint tells. By default its width divided by 64.",
        default=None,
        example=12,
    )
    normalize: Normalization = setting(
        Choice(Normalization),
        "What a vit's pixels are normalised by: the mean and deviation of ImageNet, or 0.5 for both.",
        default=Normalization.IMAGENET,
        example="half",
    )
    model: str | None = setting(
        FileName("the path of a folder"),
        "The folder of a CLIP, SigLIP or DINOv2 model that transformers has saved. Nothing is ever fetched. Relative "
        "to the folder of the file that says it.",
        default=None,
        example="models/siglip-base-patch16-224",
    )
    labels: tuple[str, ...] | None = setting(
        ListOf(Text("a label", may_be_empty=False)),
        "What CLIP or SigLIP compares each picture with; the description tells which of them fit, and how well.",
        default=None,
        example=["a dog", "a cat", "an empty street"],
    )
    label_template: str = setting(
        Text("a text with {label} in it", r"\{label\}"),
        "What each label is put into before it is compared.",
        default="a photo of {label}",
        example="a photo of {label}",
    )
    max_labels: int = setting(Integer(1, 20), "The most labels that a description tells.", default=3, example=3)
    min_probability: float = setting(
        Number(0, 1), "The probability from which on it tells a label.", default=0.1, example=0.2
    )
    batch: EncoderBatchConfig = setting(
        Section(EncoderBatchConfig),
        "How many pictures are taken on at once.",
        default=EncoderBatchConfig(),
        example={"max_size": 32},
    )
    on_out_of_memory: tuple[OutOfMemoryStep, ...] = setting(
        ListOf(Choice(OutOfMemoryStep)),
        "What is done when memory runs out, in order: halve the batch, again and again; compute it on the CPU. Where "
        "no step helps, or at raise, the call fails with ERR_ENC_OUT_OF_MEMORY.",
        default=(OutOfMemoryStep.HALVE, OutOfMemoryStep.CPU),
        example=["halve", "raise"],
    )
    cache: EncoderCacheConfig = setting(
        Section(EncoderCacheConfig),
        "Which encodings are kept for pictures that come again.",
        default=EncoderCacheConfig(),
        example={"max_bytes": "64MiB"},
    )
