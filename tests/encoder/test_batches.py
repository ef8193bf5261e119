import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from pixel_llm.encoder import Encoding, Limits, ModelEncoder, load_image
from pixel_llm.encoder.backbone import Backbone, Seen
from pixel_llm.encoder.batches import batches, encode_in_batches
from pixel_llm.encoder.devices import CPU
from pixel_llm.encoder.preprocessing import Preprocessing
from pixel_llm.errors import EncoderError, ErrorCode

GPU = torch.device("cuda")


def pictures(count, side=4):
    return [load_image(np.full((side, side), shade, np.uint8)) for shade in range(count)]


class Machine:
    """A pass that has memory for some pictures on each device; beyond it, a real allocation fails."""

    def __init__(self, **room):
        self.room = room
        self.passes = []

    def __call__(self, batch, device):
        self.passes.append((device.type, len(batch)))
        if len(batch) > self.room[device.type]:
            try:
                torch.empty(10**15)
            except RuntimeError as exc:
                raise EncoderError("no room", error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY) from exc
        return [Encoding(torch.from_numpy(picture.pixels.copy())[None], picture.source, (1, 1)) for picture in batch]


def run(machine, count, device, steps, max_size=8):
    found = encode_in_batches(
        pictures(count), lambda _: 1, machine, device, Limits(max_size=max_size, on_out_of_memory=steps)
    )
    assert list(range(count)) == [int(encoding.features[0, 0, 0, 0]) for encoding in found]
    return machine.passes


class TestBatches:
    def test_by_size_and_by_memory(self):
        """
        In order; what is too large by itself is a batch of its own.
        """
        many = pictures(7)
        needed = {picture.digest: bytes_ for picture, bytes_ in zip(many, (1, 1, 5, 9, 1, 1, 1), strict=True)}
        found = batches(many, lambda picture: needed[picture.digest], Limits(max_size=3, max_memory=6))

        assert [many[:2], many[2:3], many[3:4], many[4:]] == list(found)

    def test_exactly_full(self):
        assert [4, 4] == [len(batch) for batch in batches(pictures(8), lambda _: 5, Limits(max_size=9, max_memory=20))]
        assert [3, 3, 2] == [len(batch) for batch in batches(pictures(8), lambda _: 0, Limits(max_size=3))]

    def test_nothing(self):
        assert [] == list(batches([], lambda _: 1, Limits()))


class TestOutOfMemory:
    def test_halves_until_it_fits(self):
        machine = Machine(cpu=2)

        assert [8, 4, 2, 2, 4, 2, 2] == [size for _, size in run(machine, 8, CPU, ("halve", "cpu"))]

    def test_odd_sizes_lose_nobody(self):
        assert [7, 3, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1] == [size for _, size in run(Machine(cpu=1), 7, CPU, ("halve",))]

    def test_then_falls_to_the_cpu(self):
        machine = Machine(cuda=0, cpu=4)

        assert [("cuda", 2), ("cuda", 1), ("cpu", 1), ("cuda", 1), ("cpu", 1)] == run(machine, 2, GPU, ("halve", "cpu"))

    def test_in_the_order_of_the_policy(self):
        """
        Straight to the CPU, and halved there.
        """
        machine = Machine(cuda=0, cpu=1)

        assert [("cuda", 2), ("cpu", 2), ("cpu", 1), ("cpu", 1)] == run(machine, 2, GPU, ("cpu", "halve"))

    @pytest.mark.parametrize(
        ("steps", "passes"),
        [
            (("raise",), [("cuda", 4)]),
            (("raise", "cpu"), [("cuda", 4)]),
            ((), [("cuda", 4)]),
            (("halve",), [("cuda", 4), ("cuda", 2), ("cuda", 1)]),
            (("halve", "raise", "cpu"), [("cuda", 4), ("cuda", 2), ("cuda", 1)]),
            (("cpu",), [("cuda", 4), ("cpu", 4)]),
            (("halve", "cpu"), [("cuda", 4), ("cuda", 2), ("cuda", 1), ("cpu", 1)]),
        ],
    )
    def test_raises_where_no_step_helps(self, steps, passes):
        machine = Machine(cuda=0, cpu=0)
        with pytest.raises(EncoderError, match="no room") as caught:
            run(machine, 4, GPU, steps)

        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is caught.value.error_code
        assert passes == machine.passes

    def test_other_failures_are_raised_at_once(self):
        def fail(batch, device):
            seen.append(len(batch))
            raise EncoderError("no")

        seen = []
        with pytest.raises(EncoderError, match="no"):
            encode_in_batches(pictures(4), lambda _: 1, fail, CPU, Limits())

        assert [4] == seen

    def test_the_failed_pass_is_given_up_before_the_next(self):
        """
        Its tensors are freed: else the halves would find no more room than the whole.
        """
        import weakref

        class Held:
            pass

        alive = []

        def fail(batch, device):
            held = Held()
            alive.append(sum(ref() is not None for ref in refs))
            refs.append(weakref.ref(held))
            if len(batch) > 1:
                raise EncoderError("no room", error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY)
            return [Encoding(torch.zeros(1), "", (1, 1))]

        refs = []
        encode_in_batches(pictures(4), lambda _: 1, fail, CPU, Limits())

        assert [0] * 7 == alive


class Hungry(nn.Module):
    """Takes *megabytes* for each picture, in truth."""

    def __init__(self, megabytes, most=10**9):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.megabytes, self.most = megabytes, most

    def forward(self, pixels):
        count = len(pixels) * self.megabytes * 2**20 if len(pixels) <= self.most else 10**15
        torch.empty(count, dtype=torch.uint8).fill_(1)
        return Seen(pixels.flatten(2).transpose(1, 2))


def hungry(megabytes, most=10**9, **limits):
    backbone = Backbone(
        module=Hungry(megabytes, most), preprocessing=Preprocessing(height=4, width=4), grid=(4, 4), numbers_each=48
    )
    return ModelEncoder("hungry", "test", lambda: backbone, device="cpu", limits=Limits(**limits))


class TestModelsOutOfMemory:
    def test_halves(self):
        """
        A model whose pass really fails to allocate gets its batch in halves.
        """
        wanted = [encoding.features for encoding in hungry(0).encode_batch(pictures(16))]
        found = [encoding.features for encoding in hungry(0, most=3).encode_batch(pictures(16))]

        assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))

    def test_raises(self):
        with pytest.raises(EncoderError, match=r"NumPy array and 3 more: not enough memory .*tried") as caught:
            hungry(0, most=3, on_out_of_memory=("raise",)).encode_batch(pictures(4))

        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is caught.value.error_code
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_a_copy_on_the_cpu_is_made_once(self):
        encoder = hungry(0)
        encoder.load()
        encoder._device = torch.device("meta")  # no GPU is wanted here: only that the model is elsewhere
        encoder._modules = {encoder._device: encoder._modules[CPU].to("meta")}
        encoder._modules[encoder._device].weight = nn.Parameter(torch.ones(1, dtype=torch.float16), requires_grad=False)
        copy = encoder._module_on(CPU)

        assert copy is encoder._module_on(CPU)
        assert torch.float32 is copy.weight.dtype
        assert 1 == copy.weight.item()
        assert torch.float16 is encoder._modules[encoder._device].weight.dtype

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux heeds RLIMIT_AS")
    def test_under_a_limit_of_the_system(self):
        """
        A process that may have 700 MiB more encodes 8 pictures that need 200 MiB each; without halving it can't.
        """
        code = textwrap.dedent(
            """
            import resource, sys, pathlib
            sys.path.insert(0, "tests/encoder")
            from test_batches import hungry, pictures
            from pixel_llm.errors import EncoderError
            for encoder in (tame := hungry(200)), (strict := hungry(200, on_out_of_memory=("raise",))):
                encoder.encode(pictures(1)[0])
            now = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + 700 * 2**20,) * 2)
            print(len(tame.encode_batch(pictures(8))))
            try:
                strict.encode_batch(pictures(8))
            except EncoderError as error:
                print(error.error_code.name)
            """
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert ["8", "ERR_ENC_OUT_OF_MEMORY"] == done.stdout.split()
