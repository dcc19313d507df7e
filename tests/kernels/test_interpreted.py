"""Every kernel against float64 in Triton's interpreter."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
]


@pytest.fixture(scope="module")
def errors() -> dict[str, tuple[float, float, float]]:
    """Case -> error, tolerance, seconds."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "kernels")))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("interpreted.py"))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[float, float, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_kernels_agree_with_float64(errors: dict[str, tuple[float, float, float]]) -> None:
    bad = {case: (off, most) for case, (off, most, _) in errors.items() if not off <= most}
    assert bad == {}


def test_every_op_was_asked_in_every_type(errors: dict[str, tuple[float, float, float]]) -> None:
    from wsicodec.ops.forms import FORMS

    asked = {(case.split()[0], case.split()[-1]) for case in errors}
    types = ("torch.float32", "torch.float16", "torch.bfloat16")
    assert asked == {(form.removeprefix("_"), kind) for form in FORMS for kind in types}
