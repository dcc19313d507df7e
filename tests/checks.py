"""Questions that more than one test file asks."""

import json
import re
import subprocess
import sys
from pathlib import Path


def run_fresh(code: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run Python `code` in a new process and return what it printed; fail if it failed."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_loaded_by(code: str) -> set[str]:
    """Names of the top-level modules in a new process after `code` ran."""
    tail = "\nimport json, sys\nprint(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    return set(json.loads(run_fresh(code + tail).splitlines()[-1]))


Shapes = dict[str, tuple[int, ...]]


def published_shapes() -> dict[str, Shapes]:
    """Network -> tensor name -> shape, from the published lists.

    In the file each `#` of a name stands for the next of the numbers that follow on its line.
    """
    found: dict[str, Shapes] = {}
    section: Shapes = {}
    lists = Path(__file__).parent / "models" / "published" / "tensors.txt"
    for line in lists.read_text("utf-8").splitlines()[1:]:
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
            continue
        template, shape, *indices = line.split()
        for numbers in indices or [""]:
            parts = iter(numbers.split("."))
            pieces = re.split("(#)", template)
            name = "".join(next(parts) if piece == "#" else piece for piece in pieces)
            assert name not in section
            section[name] = tuple(int(n) for n in shape.split("x"))
    return found
