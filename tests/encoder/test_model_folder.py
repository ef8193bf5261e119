import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from drawings import disc, landscape
from models import save_folder
from safetensors.torch import load_file, save_file

from pixel_llm.encoder import PatchEncoder, build_encoder, load_image
from pixel_llm.encoder.description import MAX_CHARACTERS
from pixel_llm.encoder.model_encoder import _joined
from pixel_llm.encoder.model_folder import read_folder
from pixel_llm.encoder.zero_shot import label_words
from pixel_llm.errors import EncoderError, ErrorCode
from pixel_llm.policy import Device, EncoderCacheConfig, EncoderConfig, EncoderType

KINDS = ("clip", "siglip", "dinov2")
LABELS = ("dog", "cat", "tree")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each kind, and its model."""
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (folder, save_folder(folder, kind)) for kind, folder in made.items()}


def built(folder, **settings):
    usual = {"type": EncoderType.TRANSFORMERS, "device": Device.CPU, "cache": EncoderCacheConfig(max_bytes=0)}
    return build_encoder(EncoderConfig(model=str(folder), **(usual | settings)))


def copied(folders, kind, tmp_path):
    return shutil.copytree(folders[kind][0], tmp_path / kind)


def refused(folder, labels=()):
    with pytest.raises(EncoderError) as caught:
        read_folder(folder, labels)
    assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code
    assert str(folder) in str(caught.value)
    return str(caught.value)


class TestFeatures:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_the_models(self, folders, kind):
        folder, model = folders[kind]
        picture = load_image(landscape())
        encoding = built(folder).encode(picture)
        pixels = read_folder(folder).preprocessing.apply([picture])
        tower = model if kind == "dinov2" else model.vision_model
        with torch.inference_mode():
            wanted = tower(pixel_values=pixels).last_hidden_state

        assert (4, 4) == encoding.grid
        assert torch.allclose(wanted[:, -16:], encoding.features, atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_without_labels_the_description_is_measured_alone(self, folders, kind):
        picture = load_image(disc())

        assert PatchEncoder("cpu").encode(picture).description == built(folders[kind][0]).encode(picture).description

    @pytest.mark.parametrize("kind", KINDS)
    def test_batch_is_as_one_by_one(self, folders, kind):
        encoder = built(folders[kind][0], labels=LABELS if kind != "dinov2" else None)
        chance = np.random.default_rng(0)
        pictures = [load_image(chance.integers(0, 256, (40 + size, 50, 3), np.uint8)) for size in range(5)]

        for picture, encoding in zip(pictures, encoder.encode_batch(pictures), strict=True):
            alone = encoder.encode(picture)
            assert alone.description == encoding.description
            assert (alone.features - encoding.features).abs().max() <= 1e-4 * alone.features.abs().max()


class TestLabels:
    @pytest.mark.parametrize("kind", ["clip", "siglip"])
    def test_probabilities_are_the_models(self, folders, kind):
        """
        What transformers' own forward pass over texts and picture gives, in whole percents.
        """
        from transformers import PreTrainedTokenizerFast

        folder, model = folders[kind]
        picture = load_image(landscape())
        text = built(folder, labels=LABELS, min_probability=0.0).encode(picture).description
        tokens = PreTrainedTokenizerFast.from_pretrained(folder)(
            [f"a photo of {label}" for label in LABELS], padding="max_length", max_length=16, return_tensors="pt"
        )
        mask = {"attention_mask": tokens["attention_mask"]} if kind == "clip" else {}
        pixels = read_folder(folder).preprocessing.apply([picture])
        with torch.inference_mode():
            logits = model(input_ids=tokens["input_ids"], pixel_values=pixels, **mask).logits_per_image[0]
        wanted = logits.softmax(0) if kind == "clip" else logits.sigmoid()

        assert text.startswith("Automatic comparison with 3 given labels, ")
        assert ("sharing 100 % among them" in text) == (kind == "clip")
        for label, share in zip(LABELS, wanted.tolist(), strict=True):
            assert f"{label} {'under 1' if share < 0.01 else int(share * 100 + 0.5)} %" in text

    def test_settings_count(self, folders):
        folder, picture = folders["clip"][0], load_image(disc())
        many = built(folder, labels=LABELS, min_probability=0.0).encode(picture).description
        one = built(folder, labels=LABELS, max_labels=1, min_probability=0.0).encode(picture).description
        none = built(folder, labels=LABELS, min_probability=1.0).encode(picture).description
        other = built(folder, labels=LABELS, label_template="{label}", min_probability=0.0).encode(picture).description

        assert 3 == sum(label in many for label in LABELS)
        assert 1 == sum(label in one.partition(". ")[0] for label in LABELS)
        assert "sharing 100 % among them: none reaches 100 %. A square picture" in none
        assert many != other

    def test_dinov2_knows_no_words(self, folders):
        assert "is a DINOv2 model, which knows no words" in refused(folders["dinov2"][0], LABELS)

    def test_clip_wants_two(self, folders):
        """
        Alone, a label would have 100 % of every picture.
        """
        assert "give at least two encoder.labels" in refused(folders["clip"][0], ("dog",))
        assert read_folder(folders["siglip"][0], ("dog",)).words is not None

    def test_identity_knows_the_labels(self, folders):
        folder = folders["clip"][0]
        identities = {
            built(folder, **settings).identity
            for settings in ({}, {"labels": LABELS}, {"labels": LABELS[:2]}, {"labels": LABELS, "max_labels": 1})
        }

        assert 4 == len(identities)


class TestWords:
    def test_likeliest_first(self):
        text = label_words(("dog", "cat", "tree"), (0.085, 0.91, 0.005), 3, 0.0, shared=True)

        assert text.endswith("sharing 100 % among them: cat 91 %, dog 9 %, tree under 1 %.")

    def test_threshold(self):
        assert label_words(("dog", "cat"), (0.2, 0.19), 3, 0.2, shared=False).endswith(
            "each judged by itself: dog 20 %."
        )

    def test_none(self):
        assert label_words(("dog", "cat"), (0.1, 0.1), 3, 0.2, shared=False).endswith(": none reaches 20 %.")

    def test_long_labels_leave_room(self):
        text = label_words(("d" * 300, "c" * 300), (0.5, 0.5), 3, 0.2, shared=False)

        assert 1 == text.count("50 %")
        assert len(text) <= MAX_CHARACTERS // 2

    def test_measured_sentences_go_where_there_is_no_room(self):
        measured = "A square picture. " + "Texture: smooth. " * 60
        joined = _joined(measured.strip(), "Words.")

        assert joined.startswith("Words. A square picture. Texture")
        assert joined.endswith("smooth.")
        assert MAX_CHARACTERS - 20 < len(joined) <= MAX_CHARACTERS
        assert "w" * 950 == _joined("A picture.", "w" * 950)


class TestRefused:
    def test_missing_weights_are_listed(self, folders, tmp_path):
        """
        Transformers would fill in random numbers.
        """
        folder = copied(folders, "clip", tmp_path)
        tensors = load_file(folder / "model.safetensors")
        del tensors["vision_model.post_layernorm.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

        assert "lacks weights: vision_model.post_layernorm.weight" in refused(folder)

    def test_wrong_shape_is_named(self, folders, tmp_path):
        folder = copied(folders, "dinov2", tmp_path)
        tensors = load_file(folder / "model.safetensors")
        tensors["layernorm.weight"] = torch.zeros(31)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

        assert "can't be loaded" in refused(folder)

    @pytest.mark.parametrize("content", [b"", b"rubbish"])
    def test_damaged_weights(self, folders, tmp_path, content):
        folder = copied(folders, "clip", tmp_path)
        (folder / "model.safetensors").write_bytes(content)

        assert "can't be loaded" in refused(folder)

    def test_missing_files(self, folders, tmp_path):
        assert "no such folder" in refused(tmp_path / "nothing")
        folder = copied(folders, "clip", tmp_path)
        assert "is no folder" in refused(folder / "config.json")
        (folder / "tokenizer.json").unlink()
        assert "has no tokenizer.json, which encoder.labels need" in refused(folder, LABELS)
        (folder / "model.safetensors").unlink()
        assert "can't be loaded" in refused(folder)
        (folder / "preprocessor_config.json").unlink()
        assert "has no preprocessor_config.json" in refused(folder)
        (folder / "config.json").unlink()
        assert "has no config.json" in refused(folder)

    @pytest.mark.parametrize(
        ("config", "complaint"),
        [
            ("{", "can't be read"),
            ("[]", "must hold an object (got list)"),
            ('{"model_type": "bert"}', "model_type must be one of clip, siglip, dinov2 (got 'bert')"),
            ("{}", "(got None)"),
        ],
    )
    def test_wrong_config(self, tmp_path, config, complaint):
        (tmp_path / "config.json").write_text(config)

        assert complaint in refused(tmp_path)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"size": 3},
            {"size": {"height": 8, "width": 8}, "image_mean": [0, 0], "image_std": [1, 1]},
            {"size": "big"},
        ],
    )
    def test_wrong_preprocessing(self, folders, tmp_path, settings):
        folder = copied(folders, "clip", tmp_path)
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))

        assert "does not say how pictures are prepared" in refused(folder)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"do_normalize": False},
            {"do_rescale": False},
            {"rescale_factor": 1 / 127.5},
            {"image_mean": [0.0, 0.0, 0.0]},
            {"resample": 2},
            {"resample": None},
            {"do_center_crop": None},
        ],
        ids=str,
    )
    def test_pictures_are_prepared_as_transformers_does(self, folders, tmp_path, kind, said):
        """
        Whatever the folder says, or leaves out; but for roundings of the scaled pixels.
        """
        import transformers

        folder = copied(folders, kind, tmp_path)
        file = folder / "preprocessor_config.json"
        settings = json.loads(file.read_text()) | said
        file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
        names = {"clip": "CLIP", "siglip": "Siglip", "dinov2": "Bit"}
        theirs = getattr(transformers, f"{names[kind]}ImageProcessorPil").from_pretrained(folder, local_files_only=True)
        picture = load_image(landscape())

        wanted = torch.as_tensor(np.asarray(theirs(picture.pixels)["pixel_values"]))
        found = read_folder(folder).preprocessing.apply([picture])

        assert wanted.shape == found.shape
        assert (wanted - found).abs().mean() < 0.01 * wanted.std()

    @pytest.mark.parametrize(
        ("said", "complaint"),
        [
            ({"resample": 1}, "resample must be 2 (bilinear) or 3 (bicubic) (got 1)"),
            ({"do_resize": False}, "do_resize must be true"),
            ({"image_std": [1, 0, 1]}, "image_std holds a 0"),
            ({"image_std": [1, float("nan"), 1]}, "three numbers are wanted"),
            ({"rescale_factor": 0}, "does not say how pictures are prepared"),
        ],
    )
    def test_what_can_not_be_done_is_refused(self, folders, tmp_path, said, complaint):
        folder = copied(folders, "clip", tmp_path)
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | said))

        assert complaint in refused(folder)

    def test_layers_that_would_be_left_out(self, folders, tmp_path):
        """
        A config that says fewer layers than there are would make another model of the file.
        """
        folder = copied(folders, "clip", tmp_path)
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"]["num_hidden_layers"] = 1
        (folder / "config.json").write_text(json.dumps(config))

        assert "has weights that its config.json has no layers for, such as " in refused(folder)

    def test_picture_size_that_the_model_does_not_take(self, folders, tmp_path):
        folder = copied(folders, "siglip", tmp_path)
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"size": {"height": 64, "width": 64}}))

        with pytest.raises(EncoderError, match="does not work: transformers: torch failed") as caught:
            built(folder).load()

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code

    def test_processor_of_a_newer_transformers(self, folders, tmp_path):
        folder = copied(folders, "clip", tmp_path)
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))

        assert read_folder(folders["clip"][0]).preprocessing == read_folder(folder).preprocessing

    def test_missing_library_is_named(self, folders, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)

        with pytest.raises(EncoderError, match=r"needs transformers: pip install 'pixel-llm\[transformers\]'"):
            read_folder(folders["clip"][0])


class TestNothingFromOutside:
    def test_code_in_the_folder_is_not_run(self, folders, tmp_path):
        folder = copied(folders, "clip", tmp_path)
        (folder / "evil.py").write_text("raise SystemExit('was run')\nclass Evil: pass\n")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Evil"}}))
        extra = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | extra))

        assert read_folder(folder, LABELS).words is not None

    def test_no_network(self, folders):
        """
        In a process that cannot make a socket, models with labels load all the same.
        """
        code = (
            "import socket, sys\n"
            "def refuse(*_, **__): raise AssertionError('a socket')\n"
            "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
            "from pathlib import Path\n"
            "from pixel_llm.encoder.model_folder import read_folder\n"
            "for folder in sys.argv[1:]: assert read_folder(Path(folder), ('dog', 'cat')).words\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folders["clip"][0]), str(folders["siglip"][0])],
            check=True,
            capture_output=True,
            text=True,
        )

        assert "Loading weights" not in done.stderr
