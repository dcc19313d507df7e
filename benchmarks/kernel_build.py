"""Builds a recorded kernel launch ahead of time, without a card, and reads what it takes."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from wsicodec_kernels.launch import Launch

ARCHITECTURES = (80, 86, 89, 90, 100)
SHARED_KIB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227}  # a block may have at most
MATRIX = {80: "HMMA", 86: "HMMA", 89: "HMMA", 90: "HGMMA", 100: "UTC"}  # what is hoped for
_INSTRUCTIONS = ("UTCHMMA", "UTCMMA", "HGMMA", "HMMA", "FFMA")
_TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture."""

    registers: int  # per thread
    stack_bytes: int  # per thread; spilled registers
    local_bytes: int  # per thread
    shared_bytes: int  # per block
    matrix: str  # the widest matrix instruction in the code, or FFMA, or -
    wide_loads: int  # instructions that load 128 bits

    def fits(self, architecture: int) -> bool:
        """Whether a block's shared memory exists there."""
        return self.shared_bytes <= SHARED_KIB[architecture] * 1024


def specialized(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """Types, constants and attributes as Triton derives them from a call's arguments."""
    names = launch.kernel.arg_names
    types, constants, attributes = {}, dict(launch.constants), {}
    positional = (name for name in names if name not in launch.constants)
    for name, value in zip(positional, launch.arguments, strict=True):
        divisible = isinstance(value, torch.Tensor)
        if isinstance(value, torch.Tensor):
            types[name] = _TYPES[value.dtype]
        elif isinstance(value, float):
            types[name] = "fp32"
        elif value == 1:
            constants[name] = 1
        else:
            types[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            divisible = value % 16 == 0
        if divisible:
            attributes[(names.index(name),)] = [["tt.divisibility", 16]]
    full = {name: types.get(name, "constexpr") for name in names}
    return full, constants, attributes


def build(launch: Launch, architecture: int) -> Resources:
    """Compile for one architecture and count.

    Args:
        launch: recorded by `wsicodec_kernels.launch.recorded`, from tensors of any device.
        architecture: 90 for compute capability 9.0.
    """
    types, constants, attributes = specialized(launch)
    source = ASTSource(launch.kernel, types, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", architecture, 32)
    made = triton.compile(source, target=target, options=dict(launch.options))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage, code = _dump("-res-usage", file.name), _dump("-sass", file.name)

    def number(word: str) -> int:
        found = re.search(word + r":(\d+)", usage)
        assert found is not None, usage
        return int(found[1])

    matrix = (w for w in _INSTRUCTIONS if re.search(rf"\b{w}\b", code))
    return Resources(
        number("REG"),
        number("STACK"),
        number("LOCAL"),
        made.metadata.shared,
        next(matrix, "-"),
        len(re.findall(r"(?:LDG|LDGSTS)\.E[.A-Z0-9]*\.?128", code)),
    )


def _dump(option: str, path: str) -> str:
    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    done = subprocess.run((str(tool), option, path), capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
