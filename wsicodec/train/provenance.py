"""What a run folder says of where and how its run was made."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

NAME = "run.json"


def commit() -> str:
    """The commit that is checked out where this runs; empty outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607  # git is wherever the user has it
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    """The card or the processor that trains."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread"


def note_session(folder: Path, config: Any, seen: int, device: torch.device) -> None:
    """Add to the folder's `run.json` that a process begins at `seen` patches, and with what."""
    path = folder / NAME
    before = json.loads(path.read_text("utf-8"))["sessions"] if path.exists() else []
    session = {
        "seen": seen,
        "started": f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%SZ}",
        "command": "python -m wsicodec.train " + " ".join(sys.argv[1:]),
        "commit": commit(),
        "machine": device_name(device),
        "torch": str(torch.__version__),
    }
    folder.mkdir(parents=True, exist_ok=True)
    record = {"config": config, "sessions": [*before, session]}
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
