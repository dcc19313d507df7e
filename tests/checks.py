"""Questions that more than one test file asks."""

import json
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
