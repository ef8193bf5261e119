import os
import pickle
import threading

import numpy as np
import pytest
import torch
from drawings import disc, landscape
from models import TINY, torchvision_names, vit
from safetensors.torch import save_file
from torch.nn import functional

from pixel_llm.encoder import ModelEncoder, PatchEncoder, Picture, build_encoder, load_image
from pixel_llm.encoder.checkpoint import read_vit
from pixel_llm.encoder.preprocessing import NORMALIZATIONS, Preprocessing
from pixel_llm.errors import EncoderError, ErrorCode
from pixel_llm.policy import Device, Dtype, EncoderCacheConfig, EncoderConfig, EncoderType


@pytest.fixture(scope="module")
def model():
    return vit()


@pytest.fixture
def checkpoint(tmp_path, model):
    path = tmp_path / "vit.safetensors"
    save_file(model.state_dict(), path)
    return path


def built(checkpoint, **settings):
    settings = {
        "type": EncoderType.VIT,
        "device": Device.CPU,
        "heads": 4,
        "cache": EncoderCacheConfig(max_bytes=0),
    } | settings
    return build_encoder(EncoderConfig(checkpoint=str(checkpoint), **settings))


def refused(path, heads=4):
    with pytest.raises(EncoderError) as caught:
        read_vit(path, heads)
    assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestModel:
    def test_agrees_with_transformers(self, model):
        """
        The same weights in transformers' ViT give the same numbers.
        """
        from transformers import ViTConfig, ViTModel

        theirs = ViTModel(
            ViTConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=48,
                image_size=32,
                patch_size=8,
                layer_norm_eps=1e-6,
            ),
            add_pooling_layer=False,
        ).eval()
        ours = model.state_dict()
        for block in range(2):
            for kind in ("weight", "bias"):
                parts = ours.pop(f"blocks.{block}.attn.qkv.{kind}").chunk(3)
                ours |= {
                    f"blocks.{block}.attn.{name}_proj.{kind}": part for name, part in zip("qkv", parts, strict=True)
                }
        renamed = (
            ("pos_embed", "position_embeddings"),
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("blocks.", "layers."),
            ("attn.proj", "attention.o_proj"),
            ("attn.", "attention."),
            ("norm1", "layernorm_before"),
            ("norm2", "layernorm_after"),
        )
        wanted = {}
        for name, tensor in ours.items():
            for old, new in renamed:
                name = name.replace(old, new)
            name = f"embeddings.{name}" if name in ("cls_token", "position_embeddings") else name
            wanted[f"layer{name}" if name.startswith("norm.") else name] = tensor
        theirs.load_state_dict(wanted)
        pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))

        with torch.inference_mode():
            assert torch.allclose(theirs(pixel_values=pixels).last_hidden_state, model(pixels), atol=1e-5)


class TestReadVit:
    def test_sizes_are_read_off_the_tensors(self, checkpoint):
        assert TINY == read_vit(checkpoint, 4).shape

    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
    def test_pickle_of_tensors(self, tmp_path, model, wrapper):
        path = tmp_path / "vit.pth"
        tensors = model.state_dict()
        torch.save(tensors if wrapper is None else {wrapper: tensors, "epoch": 3}, path)

        assert torch.equal(model.pos_embed, read_vit(path, 4).pos_embed)

    def test_torchvision_names(self, tmp_path, model):
        path = tmp_path / "vit.safetensors"
        save_file(torchvision_names(model.state_dict()), path)
        pixels = torch.randn(1, 3, 32, 32)

        assert torch.equal(model(pixels), read_vit(path, 4)(pixels))

    def test_prefix_of_data_parallel(self, tmp_path, model):
        path = tmp_path / "vit.pth"
        torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, path)

        assert TINY == read_vit(path, 4).shape

    def test_half_precision_is_widened(self, tmp_path, model):
        path = tmp_path / "vit.safetensors"
        save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, path)

        assert {torch.float32} == {parameter.dtype for parameter in read_vit(path, 4).parameters()}

    def test_wrong_shapes_are_named(self, tmp_path, model):
        tensors = model.state_dict()
        tensors["blocks.1.attn.qkv.weight"] = torch.zeros(90, 32)
        tensors["norm.bias"] = torch.zeros(31)
        path = tmp_path / "vit.pth"
        torch.save(tensors, path)
        message = refused(path)

        assert "blocks.1.attn.qkv.weight must be 96×32 (got 90×32)" in message
        assert "norm.bias must be 32 (got 31)" in message
        assert "\n" not in message

    def test_missing_and_unexpected_are_listed(self, tmp_path, model):
        tensors = model.state_dict()
        del tensors["blocks.0.norm1.weight"], tensors["cls_token"]
        tensors["reg_token"] = torch.zeros(1, 4, 32)
        path = tmp_path / "vit.pth"
        torch.save(tensors, path)
        message = refused(path)

        assert "missing: cls_token, blocks.0.norm1.weight" in message
        assert "unexpected: reg_token" in message

    @pytest.mark.parametrize(
        ("name", "complaint"),
        [
            ("blocks.10000000.norm1.bias", "has tensors of blocks.10000000, but none of blocks.2"),
            (f"blocks.{'9' * 5000}.norm1.bias", f"has tensors of blocks.{'9' * 20}, but none of blocks.2"),
            ("blocks.01.norm1.bias", "has tensors of blocks.01, but none of blocks.2"),
        ],
    )
    def test_a_strange_number_builds_no_giant(self, tmp_path, model, name, complaint):
        path = tmp_path / "vit.pth"
        torch.save(model.state_dict() | {name: torch.zeros(32)}, path)

        assert complaint in refused(path)

    def test_a_number_that_should_have_sides(self, tmp_path, model):
        path = tmp_path / "vit.pth"
        torch.save(model.state_dict() | {"blocks.0.mlp.fc1.weight": torch.tensor(1.0)}, path)

        assert "blocks.0.mlp.fc1.weight must be hidden×width (got a single number)" in refused(path)

    def test_imaginary_weights(self, tmp_path, model):
        path = tmp_path / "vit.pth"
        torch.save(model.state_dict() | {"norm.bias": torch.zeros(32, dtype=torch.complex64)}, path)

        assert "norm.bias must be real numbers (got complex64)" in refused(path)

    def test_long_lists_are_cut(self, tmp_path, model):
        path = tmp_path / "vit.pth"
        kept = ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")
        torch.save({name: model.state_dict()[name] for name in kept}, path)

        assert "missing: cls_token, patch_embed.proj.bias, blocks.0.norm1.weight" in refused(path)
        assert " and 10 more" in refused(path)

    def test_head_is_left_out(self, tmp_path, model):
        path = tmp_path / "vit.pth"
        torch.save(model.state_dict() | {"head.weight": torch.zeros(10, 32), "head.bias": torch.zeros(10)}, path)

        assert TINY == read_vit(path, 4).shape

    @pytest.mark.parametrize(
        ("tensors", "complaint"),
        [
            ({"conv1.weight": torch.zeros(1)}, "is no ViT as timm or torchvision name it"),
            ({}, "(got no tensors)"),
            ({"patch_embed.proj.weight": torch.zeros(32, 1, 8, 8)}, "must be width×3×patch×patch (got 32×1×8×8)"),
            ({"pos_embed": torch.zeros(1, 16, 32)}, "pos_embed must be 1×(1 + side²)×32, one for a square of patches"),
            ({"pos_embed": torch.zeros(17, 32)}, "(got 17×32)"),
        ],
    )
    def test_no_vit(self, tmp_path, model, tensors, complaint):
        path = tmp_path / "vit.pth"
        whole = {} if not tensors or "conv1.weight" in tensors else model.state_dict()
        torch.save(whole | tensors, path)

        assert complaint in refused(path)

    @pytest.mark.parametrize("heads", [5, -1])
    def test_heads_divide_the_width(self, checkpoint, heads):
        assert f"encoder.heads must divide the width of 32 (got {heads})" in refused(checkpoint, heads)

    def test_default_of_heads(self, tmp_path):
        wide = vit(TINY.__class__(width=128, depth=1, heads=2, hidden=64, patch=8, side=2))
        torch.save(wide.state_dict(), tmp_path / "vit.pt")

        assert 2 == read_vit(tmp_path / "vit.pt").shape.heads


class TestHostileFiles:
    def test_pickle_that_runs_code_is_refused(self, tmp_path):
        """
        What it would run is not run.
        """
        target = tmp_path / "was-run"

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(target),)

        for path, write in (
            (tmp_path / "zip.pth", lambda path: torch.save({"cls_token": Evil()}, path)),
            (tmp_path / "plain.pth", lambda path: path.write_bytes(pickle.dumps(Evil(), protocol=2))),
        ):
            write(path)
            message = refused(path)

            assert "could run code: it was not run" in message
            assert not target.exists()

    def test_no_variable_lets_code_run(self, tmp_path, monkeypatch):
        """
        Torch has a variable that lets pickles run code; it does not count here.
        """
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        self.test_pickle_that_runs_code_is_refused(tmp_path)

    @pytest.mark.parametrize("name", ["vit.safetensors", "vit.pth"])
    @pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 cut off", b"\xff" * 64])
    def test_damaged(self, tmp_path, name, content):
        path = tmp_path / name
        path.write_bytes(content)

        assert "is no checkpoint" in refused(path)

    def test_cut_off(self, tmp_path, checkpoint):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(checkpoint.read_bytes()[:-100])

        assert "is damaged" in refused(path)

    def test_missing(self, tmp_path):
        assert "no such file" in refused(tmp_path / "nothing.pth")
        assert "is no file" in refused(tmp_path)

    def test_no_state_dict(self, tmp_path):
        torch.save([torch.zeros(1)], tmp_path / "list.pth")

        assert "must hold a state_dict: names and tensors (got list)" in refused(tmp_path / "list.pth")


class TestEncode:
    def test_features_are_the_models_and_the_description_is_measured(self, checkpoint, model):
        """
        A ViT's numbers have no words: what is said is what the patch encoder measures, weights or not.
        """
        picture = load_image(landscape())
        encoding = built(checkpoint).encode(picture)
        mean, deviation = NORMALIZATIONS["imagenet"]
        pixels = torch.from_numpy(landscape()).permute(2, 0, 1)[None]
        small = functional.interpolate(pixels, size=(32, 32), mode="bicubic", antialias=True).float() / 255
        normal = (small - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)

        assert torch.allclose(model(normal)[:, 1:], encoding.features, atol=1e-4)
        assert (4, 4) == encoding.grid
        assert PatchEncoder("cpu").encode(picture).description == encoding.description

    def test_batch_is_as_one_by_one(self, checkpoint):
        encoder = built(checkpoint)
        pictures = [
            load_image(np.random.default_rng(size).integers(0, 256, (40 + size, 50, 3), np.uint8)) for size in range(19)
        ]

        for picture, encoding in zip(pictures, encoder.encode_batch(pictures), strict=True):
            alone = encoder.encode(picture)
            assert alone.description == encoding.description
            assert (alone.features - encoding.features).abs().max() <= 1e-4 * alone.features.abs().max()
            assert encoding.features.nbytes == encoding.features.untyped_storage().nbytes()

    def test_weights_that_are_no_numbers(self, tmp_path, model):
        """
        They would be told of in a description that means nothing: loading refuses them, in words without stamps.
        """
        path = tmp_path / "vit.pth"
        torch.save(model.state_dict() | {"norm.bias": torch.full((32,), float("nan"))}, path)
        with pytest.raises(EncoderError, match="sees NaN or infinity in a black picture") as caught:
            built(path).load()

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code
        assert str(caught.value).startswith("the encoder vit does not work: ")

    def test_unknown_normalization(self, checkpoint):
        with pytest.raises(EncoderError, match=r"encoder.normalize must be one of imagenet, half \(got 'x'\)"):
            built(checkpoint, normalize="x")

    def test_normalize(self, checkpoint):
        picture = load_image(disc())

        assert not torch.allclose(
            built(checkpoint).encode(picture).features, built(checkpoint, normalize="half").encode(picture).features
        )

    def test_bfloat16(self, checkpoint):
        picture = load_image(disc())
        exact = built(checkpoint).encode(picture).features
        rough = built(checkpoint, dtype=Dtype.BFLOAT16).encode(picture).features

        assert torch.float32 is rough.dtype
        assert not torch.equal(exact, rough)
        assert (exact - rough).abs().mean() < 0.1 * exact.abs().mean()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_float16_on_the_cpu_is_refused(self, checkpoint):
        with pytest.raises(EncoderError, match="float16 needs a GPU, and this is the CPU: use float32") as caught:
            built(checkpoint, dtype=Dtype.FLOAT16, device=Device.AUTO).load()

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code

    def test_unknown_dtype(self, checkpoint):
        with pytest.raises(EncoderError, match=r"must be one of float32, float16, bfloat16 \(got 'int8'\)"):
            built(checkpoint, dtype="int8").load()

    def test_threads_get_equal_encodings(self, checkpoint):
        encoder, picture, found = built(checkpoint), load_image(disc()), []
        threads = [threading.Thread(target=lambda: found.append(encoder.encode(picture))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert all(torch.equal(found[0].features, encoding.features) for encoding in found)
        assert 4 == len(found)

    def test_identity_knows_the_file(self, checkpoint, model):
        before = built(checkpoint).identity
        save_file({name: tensor * 2 for name, tensor in model.state_dict().items()} | {"x": torch.zeros(1)}, checkpoint)

        assert before != built(checkpoint).identity
        assert before != built(checkpoint, normalize="half").identity
        assert isinstance(built(checkpoint), ModelEncoder)

    def test_checkpoint_must_be_named(self):
        with pytest.raises(EncoderError, match=r"encoder.type vit needs encoder.checkpoint") as caught:
            build_encoder(EncoderConfig(type=EncoderType.VIT))

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code


class TestPreprocessing:
    def test_agrees_with_transformers(self):
        """
        Scaling, cutting and normalising as CLIP's own processor does it, within a level of 255.
        """
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        settings = {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}
        mean, deviation = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
        theirs = CLIPImageProcessorPil(image_mean=mean, image_std=deviation, **settings)
        ours = Preprocessing(height=40, width=40, shortest=48, bicubic=True, mean=mean, deviation=deviation)
        for pixels in (landscape(), disc(), landscape().transpose(1, 0, 2)):
            wanted = theirs(pixels, return_tensors="pt")["pixel_values"]
            found = ours.apply([load_image(pixels)])

            assert wanted.shape == found.shape
            assert (wanted - found).abs().max() * min(deviation) * 255 <= 3
            assert (wanted - found).abs().mean() * min(deviation) * 255 <= 0.5

    @pytest.mark.parametrize("shape", [(1, 1, 3), (1, 90, 3), (7, 3, 3), (300, 2, 3)])
    def test_any_size(self, shape):
        picture = Picture(np.full(shape, 255, np.uint8))
        for preprocessing in (Preprocessing(height=32, width=32), Preprocessing(height=32, width=32, shortest=36)):
            assert (1, 3, 32, 32) == preprocessing.apply([picture]).shape

    def test_cut_out_larger_than_the_picture_is_framed_in_black(self):
        picture = load_image(np.full((10, 10), 255, np.uint8))
        found = Preprocessing(height=16, width=16, shortest=10, mean=(0,) * 3, deviation=(1,) * 3).apply([picture])

        assert 100 == found[0, 0].sum()
        assert 1 == found[0, 0, 3, 3] == found[0, 0, 12, 12]
