import re
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from drawings import butterfly, checkerboard, disc, gradient, grey, halves, landscape, square, stripes
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, measure

from pixel_llm.encoder import PatchEncoder, load_image
from pixel_llm.encoder.colours import COLOURS, colour_labels, colour_name, whole_percents
from pixel_llm.encoder.description import MAX_CHARACTERS
from pixel_llm.encoder.places import locate
from pixel_llm.encoder.regions import connected_runs, find_runs

ENCODER = PatchEncoder("cpu")


def describe(pixels):
    return ENCODER.encode(load_image(pixels, layout="hwc")).description


def colour_shares(text):
    """Colour to percent, as the sentence on colours has it."""
    sentence = re.search(r"Main colours: (.*?\))\.", text)
    return (
        {name.strip(): int(share) for name, share in re.findall(r"([a-z ]+?) (\d+) %", sentence[1])} if sentence else {}
    )


def swapped(text, one, other):
    return re.sub(f"{one}|{other}", lambda word: other if word[0] == one else one, text)


def components(labels):
    """The number of each cell's area."""
    runs = find_runs(labels)
    return connected_runs(runs, labels)[runs.numbers]


def statements(text):
    """The parts of a description, in no order: what is equally large may change places."""
    return sorted(part.strip(" .;,") for part in re.split(r"[.;:,] ", text))


class TestColours:
    def test_two_halves(self):
        text = describe(halves("red", "blue"))

        assert "red 50 % (in the left half), blue 50 % (in the right half)" in text
        assert "red full-height vertical band in the left half (50 %)" in text
        assert {"red", "blue"} == set(colour_shares(text))

    def test_black_picture(self):
        text = describe(np.zeros((100, 80, 3), np.uint8))

        assert text.startswith("A portrait picture of 80×100 pixels, in shades of grey. All of it is black. ")
        assert "Overall it is dark (mean L* 0 of 100): dark areas 100 % (over the whole picture)" in text
        assert "There are hardly any edges. Texture: smooth 100 % (over the whole picture)." in text
        assert not re.search("white|light|symmetric|in colour", text)

    def test_scaling_mixes_no_colours(self):
        """
        Stripes finer than the scaled picture would look grey in it; there is no grey in them.
        """
        for kind in ("vertical", "horizontal", "rising"):
            shares = colour_shares(describe(stripes(kind, thickness=1, size=(1344, 1344))))

            assert {"black", "white"} == set(shares)
            assert 50 == pytest.approx(shares["black"], abs=1)

    def test_grey_and_coloured_pictures_are_told_apart(self):
        assert ", in shades of grey." in describe(data.camera())
        assert ", in colour." in describe(data.coffee())

    @pytest.mark.parametrize("name", COLOURS)
    def test_every_sample_has_its_own_name(self, name):
        for code in COLOURS[name].split():
            pixel = np.frombuffer(bytes.fromhex(code), np.uint8).reshape(1, 1, 3)

            assert f"All of it is {name}." in describe(pixel)

    def test_every_grey_is_named_a_grey(self):
        lab = np.zeros((101, 3), np.float32)
        lab[:, 0] = np.arange(101)
        names = [colour_name(label) for label in colour_labels(lab)]

        assert ["black", "dark grey", "grey", "light grey", "white"] == list(dict.fromkeys(names))

    def test_whole_percents_sum_to_a_hundred(self):
        assert [34, 33, 33] == whole_percents(np.array([1, 1, 1]))
        assert 100 == sum(whole_percents(np.array([335, 335, 330, 1, 1])))


class TestRegions:
    def test_disc(self):
        text = describe(disc())

        assert "red round area in the upper right (5 %)" in text
        assert "white 95 % (over most of the picture), red 5 % (in the upper right)" in text
        assert not re.search(r"pink|left|lower|red square|rectangle|busy", text)

    @pytest.mark.parametrize("side", [40, 60, 120])
    def test_square_has_its_share(self, side):
        text = describe(square(side=side, at=(10, 290 - side)))
        share = int(re.search(r"blue square in the lower left \((\d+) %\)", text)[1])

        assert 100 * side**2 / 300**2 == pytest.approx(share, abs=1)

    def test_landscape(self):
        text = describe(landscape())

        for statement in (
            "A landscape picture of 640×480 pixels, in colour.",
            "light blue irregular area",
            "green full-width horizontal band in the lower part",
            "brown square mostly in the lower right (7 %)",
            "yellow round area in the upper left (4 %)",
        ):
            assert statement in text

    def test_stripes_are_counted(self):
        assert "10 black full-width horizontal bands" in describe(stripes("horizontal"))
        assert "15 white full-height vertical bands" in describe(stripes("vertical"))

    def test_stripes_too_fine_to_count_are_not_counted(self):
        for thickness in (1, 2, 3, 5):
            text = describe(stripes("vertical", thickness, (1300, 700)))
            assert "bands" not in text or f"{1300 // thickness // 2} black" in text

    def test_texture_is_no_even_area(self):
        assert "Even areas" not in describe(checkerboard())
        assert "Even areas" not in describe(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8))

    def test_components_agree_with_scikit_image(self):
        for seed, kinds in ((0, 2), (1, 3), (2, 8)):
            labels = np.random.default_rng(seed).integers(0, kinds, (60, 70))
            expected = measure.label(labels, connectivity=1, background=-1)
            pairs = np.unique(np.stack((expected.ravel(), components(labels).ravel())), axis=1)

            assert expected.max() == pairs.shape[1]

    def test_snake_is_one_component(self):
        spiral = np.zeros((41, 41), np.intp)
        spiral[::2] = 1
        spiral[1::4, -1] = spiral[3::4, 0] = 1

        assert 1 == len(np.unique(components(spiral)[spiral == 1]))


class TestStructure:
    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("horizontal", "horizontally (100 %)"),
            ("vertical", "vertically (100 %)"),
            ("rising", "along rising diagonals (/)"),
            ("falling", "along falling diagonals (\\)"),
        ],
    )
    def test_direction_of_stripes(self, kind, words):
        text = describe(stripes(kind))

        assert f"Edges run mostly {words}" in text
        assert 1 == len(re.findall("horizontally|vertically|rising|falling", text))

    def test_checkerboard(self):
        text = describe(checkerboard())

        assert "Edges run mostly horizontally and vertically." in text
        assert "Texture: busy 100 % (over the whole picture)." in text
        assert {"black": 50, "white": 50} == colour_shares(text)

    def test_disc_has_no_direction(self):
        assert "Edges run in no single direction." in describe(disc())

    @pytest.mark.parametrize(
        ("turns", "words"),
        [(0, "from left to right"), (1, "from bottom to top"), (2, "from right to left"), (3, "from top to bottom")],
    )
    def test_gradient(self, turns, words):
        text = describe(np.rot90(gradient(), turns))

        assert f"It gets steadily lighter {words}." in text
        assert "There are hardly any edges. Texture: smooth 100 %" in text
        assert "Even areas" not in text

    def test_slanted_gradient(self):
        x, y = np.meshgrid(np.arange(200), np.arange(200))

        assert "lighter from the upper left to the lower right." in describe(grey((x + y) / 2))

    def test_light_and_dark_sides(self):
        text = describe(gradient())

        assert "light areas 33 % (in the right part), dark areas 28 % (in the left part)" in text

    @pytest.mark.parametrize("thickness", [1, 2, 3])
    def test_texture_finer_than_the_scaled_picture_is_not_taken_for_smooth(self, thickness):
        text = describe(stripes("vertical", thickness, (1344, 1344)))

        assert "Its edges are too fine to follow. Texture: fine-grained 100 %" in text
        assert not re.search("smooth|hardly|steadily|Even", text)

    def test_texture_is_where_it_is(self):
        pixels = np.full((224, 224), 128, np.uint8)
        pixels[:, 112:] = checkerboard(4, (112, 224))[..., 0]
        text = describe(pixels)

        assert "busy 50 % (in the right half)" in text
        assert re.search(r"smooth 4\d % \(in the left half\)", text)

    def test_symmetry(self):
        assert "It is nearly mirror-symmetric left to right (1.00)." in describe(butterfly())
        assert "nearly mirror-symmetric" not in describe(landscape())
        assert "It is not mirror-symmetric." in describe(disc())
        assert "nearly mirror-symmetric left to right (1.00) and top to bottom (1.00)" in describe(
            np.pad(np.full((50, 50), 255, np.uint8), 50)
        )


class TestLocate:
    @pytest.mark.parametrize(
        ("rows", "columns", "words"),
        [
            (slice(None), slice(None), "over the whole picture"),
            (slice(None), slice(0, 6), "in the left half"),
            (slice(6, 12), slice(None), "in the lower half"),
            (slice(0, 6), slice(6, 12), "in the upper right quarter"),
            (slice(0, 2), slice(10, 12), "in the upper right"),
            (slice(0, 2), slice(5, 7), "in the upper middle"),
            (slice(0, 2), slice(None), "in the upper part"),
            (slice(5, 7), slice(0, 2), "in the middle left"),
            (slice(None), slice(9, 12), "in the right part"),
            (slice(4, 8), slice(4, 8), "in the centre"),
            (slice(5, 7), slice(None), "at middle height"),
            (slice(None), slice(5, 7), "along the vertical middle"),
            (slice(None), slice(0, 10), "over most of the picture"),
            (slice(4, 12), slice(10, 12), "mostly in the lower right"),
        ],
    )
    def test_words(self, rows, columns, words):
        mask = np.zeros((12, 12), bool)
        mask[rows, columns] = True

        assert words == locate(mask)

    def test_frame_and_scattered_cells(self):
        frame = np.ones((12, 12), bool)
        frame[3:9, 3:9] = False
        corners = np.zeros((12, 12), bool)
        corners[::11, ::11] = True

        assert "around the edges" == locate(frame)
        assert "spread out" == locate(corners)

    def test_single_cell(self):
        assert "over the whole picture" == locate(np.ones((1, 1), bool))


class TestMetamorphic:
    @pytest.mark.parametrize("pixels", [halves(), disc(), landscape(), gradient(), square()])
    def test_flip_swaps_left_and_right(self, pixels):
        text, flipped = describe(pixels), describe(pixels[:, ::-1])

        assert places(swapped(text, "left", "right")) == places(flipped)

    @pytest.mark.parametrize("pixels", [data.astronaut(), data.coffee()], ids=["astronaut", "coffee"])
    def test_flip_swaps_the_sides_of_photographs(self, pixels):
        areas, flipped = (re.search(r"Even areas.*?\.", describe(view))[0] for view in (pixels, pixels[:, ::-1]))

        assert places(swapped(areas, "left", "right")) == places(flipped)

    @pytest.mark.parametrize("pixels", [stripes("horizontal"), stripes("vertical"), checkerboard()])
    def test_quarter_turn_swaps_horizontal_and_vertical(self, pixels):
        lines, turned = (re.search(r"Edges(.*?)\.", describe(view))[1] for view in (pixels, np.rot90(pixels)))

        assert sorted(swapped(lines, "horizontal", "vertical").split()) == sorted(turned.split())

    def test_upside_down_swaps_upper_and_lower(self):
        assert "red round area in the lower right (5 %)" in describe(disc()[::-1])

    @pytest.mark.parametrize("factor", [2, 3])
    def test_enlarging_changes_nothing_but_the_size(self, factor):
        large = landscape().repeat(factor, axis=0).repeat(factor, axis=1)

        assert places(describe(landscape())) == places(describe(large))


def places(text):
    """What is said to lie where, without shares, which sampling may move by 1 %, and the sentence on size."""
    without = re.sub(r"\d+ % |\(\d+ %\)", "", text)
    return [part for part in statements(without) if re.search("left|right|upper|lower|half|part|centre", part)]


class TestDocs:
    def test_the_example_is_what_comes_out(self):
        page = Path(__file__).parents[2] / "docs" / "explanation" / "patch-encoder.md"

        assert describe(landscape()) in " ".join(page.read_text(encoding="utf-8").replace("> ", "").split())


class TestPhotographs:
    """
    What is asserted here was seen by eye in the photographs.
    """

    def test_astronaut(self):
        """
        A woman in an orange suit before a light wall; a black helmet and a black model's stand at the lower right.
        """
        text = describe(data.astronaut())

        assert "A square picture of 512×512 pixels, in colour." in text
        assert re.search(r"light grey \d+ % \(mostly in the upper part\)", text)
        assert re.search(r"orange irregular area (mostly )?in the lower left", text)
        assert re.search(r"black irregular area (mostly )?in the lower right", text)
        assert "It is not mirror-symmetric." in text
        assert not re.search(r"green|blue|nearly|steadily", text)

    def test_coffee(self):
        """
        A red cup and saucer on a brown wooden table that is darker at the lower left.
        """
        text = describe(data.coffee())
        shares = colour_shares(text)

        assert "A landscape picture of 600×400 pixels, in colour." in text
        assert "brown" == max(shares, key=shares.get)
        assert "dark red" in shares
        assert re.search(r"dark areas \d+ % \(mostly in the lower part\)", text)
        assert not re.search(r"green|blue|purple|nearly|steadily", text)

    def test_cat(self):
        """
        A brown cat's face; the blurred grey background is at the right.
        """
        text = describe(data.cat())

        assert re.search(r"brown 7\d % \(over most of the picture\)", text)
        assert re.search(r"grey \d+ % \(mostly in the right part\)", text)
        assert "grey irregular area in the lower right" in text
        assert not re.search(r"blue|red\b|purple|nearly|steadily", text)


class TestAnyPicture:
    @settings(max_examples=150, deadline=None)
    @given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
    def test_description_is_whole(self, pixels):
        """
        Any picture is described, in 900 characters at most, with shares that sum to 100 at most.
        """
        text = describe(pixels)

        assert sum(colour_shares(text).values()) <= 100
        assert len(text) <= MAX_CHARACTERS
        assert 4 <= len(re.findall(r"\.(?: |$)", text)) <= 9
        assert text.endswith(".")
        assert "nan" not in text

    def test_photographs_fit(self):
        for picture in (data.astronaut(), data.coffee(), data.cat()):
            assert len(describe(picture)) <= MAX_CHARACTERS
