"""Pickled checkpoints: what is read is what PyTorch reads; what executes is refused, not run."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.checks import run_fresh  # noqa: E402
from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.importing import unpickler  # noqa: E402
from wsicodec.importing.sources import open_source  # noqa: E402

pytestmark = pytest.mark.torch

Save = Callable[..., Path]


class Call:
    """Pickles to a call of any function with any arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def archive(path: Path, tree: Any, compression: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    """A zip laid out as PyTorch's, with any pickle in it."""
    data = tree if isinstance(tree, bytes) else pickle.dumps(tree, protocol=2)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in more.items():
            file.writestr(f"archive/{name.replace('__', '/')}", content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught, open_source(path):
        pass
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_tensor_is_read_as_pytorch_reads_it(saved: Save) -> None:
    base = torch.randn(4, 6, 2)
    state = OrderedDict(
        plain=base,
        view=base[1:3, 2:],
        turned=torch.randn(5, 3).t(),
        channels_last=torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        half=torch.randn(7).half(),
        brain=torch.randn(3, 2).bfloat16().t(),
        double=torch.randn(2, dtype=torch.float64),
        scalar=torch.tensor(0.9999),
        empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
    )
    path = saved(state)
    expected = torch.load(path, weights_only=True)
    with open_source(path) as source:
        assert source.shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
        for name, tensor in expected.items():
            found = source.read(name)
            assert found.dtype == np.float32
            assert np.array_equal(found, tensor.detach().float().numpy()), name


def test_values_that_are_no_weights_are_not_taken_for_weights(saved: Save) -> None:
    path = saved({"steps": torch.arange(3), "epoch": 5, "names": ["a"]})
    with open_source(path) as source:
        assert list(source.shapes) == ["steps"]
        with pytest.raises(BundleError, match="in floats, got I64"):
            source.read("steps")


@pytest.mark.parametrize(
    "function",
    [os.system, eval, open, os.remove, pickle.loads, np.load],
    ids=lambda f: f.__name__,
)
def test_a_pickle_that_executes_is_refused_and_does_nothing(function: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("still here")
    argument = f"touch {tmp_path / 'ran'}" if function is os.system else str(victim)
    path = archive(tmp_path / "bad.ckpt", {"state_dict": Call(function, argument)})
    before = sorted(tmp_path.iterdir())
    text = refusal(path)
    assert "nothing in it was run" in text
    assert function.__name__ in text
    assert sorted(tmp_path.iterdir()) == before
    assert victim.read_text() == "still here"


def test_settings_objects_keep_nothing_and_run_nothing(tmp_path: Path) -> None:
    """A constructor on the list is a stand-in; PyTorch's own would be called here."""
    import argparse

    tree = {"args": Call(argparse.Namespace, "x"), "order": Call(OrderedDict, [("a", 1)])}
    assert "no named tensors" in refusal(archive(tmp_path / "odd.pth", tree))


def test_a_bare_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {tmp_path / 'ran'}")))
    assert "no zip-format checkpoint" in refusal(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "action", ["open('x')", "__import__('socket')", "compile('1', '', 'eval')"]
)
def test_the_audit_hook_forbids_what_the_list_might_have_missed(action: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import os, unpickler\n"
        "unpickler.forbid_everything()\n"
        f"try:\n    {action}\n"
        "except unpickler.Refused as reason:\n    os.write(1, str(reason).encode())\n"
        "os._exit(0)\n"
    )
    assert "not allowed" in run_fresh(code, Path(unpickler.__file__).parent)


def test_a_truncated_file_is_refused(saved: Save) -> None:
    path = saved({"weight": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:-700])
    assert "truncated" in refusal(path)


def test_a_flipped_bit_is_found(saved: Save) -> None:
    path = saved({"weight": torch.full((1000,), 3.25)})
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<f", 3.25)) + 400] ^= 1
    path.write_bytes(bytes(data))
    assert "checksum" in refusal(path)


class Persistent(pickle.Pickler):
    """Pickles marked tuples as PyTorch pickles storages."""

    def persistent_id(self, obj: Any) -> Any:
        return obj[1:] if isinstance(obj, tuple) and obj and obj[0] == "PERSISTENT" else None


def tensor_pickle(count: int, offset: int, shape: Any, stride: Any) -> bytes:
    """The pickle of one tensor over storage "0", with any numbers in it."""
    storage = ("PERSISTENT", "storage", torch.FloatStorage, "0", "cpu", count)
    arguments: tuple[Any, ...] = (storage, offset, shape, stride, False, OrderedDict())
    file = io.BytesIO()
    Persistent(file, 2).dump({"w": Call(torch._utils._rebuild_tensor_v2, *arguments)})
    return file.getvalue()


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((4, 0, (5,), (1,)), "beyond its storage"),
        ((4, 3, (2,), (1,)), "beyond its storage"),
        ((4, 0, (1 << 40,), (0,)), "beyond its storage"),
        ((4, -1, (2,), (1,)), "whole numbers"),
        ((4, 0, (2, 2), (1,)), "damaged"),
        ((8, 0, (2,), (1,)), "16 bytes instead of 32"),
    ],
)
def test_numbers_are_checked_before_they_are_used(numbers: Any, said: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "odd.ckpt", tensor_pickle(*numbers), data__0=bytes(16))
    assert said in refusal(path)


@pytest.mark.parametrize("opcodes", [b"}U\x05shapeK\x07sb", b"N}U\x05shapeK\x07s\x86b", b"K\x01b"])
def test_a_tensor_stays_as_it_was_checked(opcodes: bytes, tmp_path: Path) -> None:
    """A pickle may set the state of any object that it made; here it cannot."""
    pickled = tensor_pickle(4, 0, (2,), (1,))
    at = pickled.rindex(b"R") + 1  # the tensor lies on top of the stack
    changed = pickled[:at] + opcodes + pickled[at:]
    path = archive(tmp_path / "odd.ckpt", changed, data__0=bytes(16))
    assert refusal(path).endswith(("damaged: AttributeError", "damaged: UnpicklingError"))


def test_a_whole_handmade_archive_is_read(tmp_path: Path) -> None:
    """So that the refusals above are about their numbers and not about the frame around them."""
    values = struct.pack("<4f", 1, 2, 3, 4)
    pickled = tensor_pickle(4, 1, (3,), (1,))
    with open_source(archive(tmp_path / "fine.ckpt", pickled, data__0=values)) as source:
        assert source.read("w").tolist() == [2, 3, 4]
    packed = archive(tmp_path / "a.ckpt", pickled, zipfile.ZIP_DEFLATED, data__0=values)
    assert "compressed" in refusal(packed)
    other = archive(tmp_path / "b.ckpt", pickled, data__0=values, byteorder=b"big")
    assert "big-endian" in refusal(other)
    assert "'data/0' is missing" in refusal(archive(tmp_path / "c.ckpt", pickled))


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02.", "damaged"),
        (b"garbage", "damaged"),
        (b"", "damaged"),
        (pickle.dumps([1, 2]), "no mapping"),
        (pickle.dumps({"a": 1}), "no named tensors"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),
    ],
)
def test_other_pickles_end_in_one_line(pickled: bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(archive(tmp_path / "odd.ckpt", pickled))


def test_a_zip_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "slides.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    assert "no data.pkl" in refusal(path)
