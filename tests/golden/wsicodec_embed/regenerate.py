"""Write the golden payloads of `wsicodec_embed`, format version 1.

    python tests/golden/wsicodec_embed/regenerate.py --yes

Published golden files are never changed: other bytes mean another format version and another
folder. Without `--yes` nothing is written.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from wsicodec.coding import decode_grid, encode_grid, fit_tables

FOLDER = Path(__file__).parent / "1"
WIDTH = 16


def draw_grid(seed: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A grid (gh, gw, 16) whose neighbours resemble each other."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(shape[0] + 1, shape[1] + 1, WIDTH))
    smooth = noise[1:, 1:] + 0.7 * noise[1:, :-1] + 0.7 * noise[:-1, 1:]
    return np.asarray(smooth * np.arange(1, WIDTH + 1) ** -0.7 + 0.25, np.float32)


def cases() -> dict[str, tuple[NDArray[np.float32], str]]:
    """Input grid, blank cells all zero, and backend of every case."""
    dense = draw_grid(1, (8, 8))
    sparse = draw_grid(2, (9, 11))
    sparse[np.random.default_rng(3).random((9, 11)) < 0.6] = 0
    block = np.zeros((32, 32, WIDTH), np.float32)
    block[4:9, 10:22] = draw_grid(4, (5, 12))
    escapes = draw_grid(5, (4, 5))
    escapes[1, 2] *= 40
    escapes[3] *= np.float32(-3000)
    return {
        "dense": (dense, "range"),
        "sparse": (sparse, "range"),
        "block": (block, "range"),
        "blank": (np.zeros((32, 32, WIDTH), np.float32), "range"),
        "escapes": (escapes, "range"),
        "blosc2": (sparse, "blosc2"),
    }


def main() -> int:
    """Write tables, inputs, payloads and digests."""
    if sys.argv[1:] != ["--yes"]:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    tables = fit_tables([draw_grid(seed, (24, 24)) for seed in range(10, 13)], step=0.5)
    safetensors.numpy.save_file(tables.to_tensors(), FOLDER / "tables.safetensors")
    index = {}
    for name, (grid, backend) in cases().items():
        valid = np.asarray(grid.any(axis=2), np.bool_)
        payload = encode_grid(grid, valid, tables, backend)
        decoded = decode_grid(payload, tables)[0]
        np.save(FOLDER / f"{name}.npy", grid, allow_pickle=False)
        (FOLDER / f"{name}.bin").write_bytes(payload)
        digest = hashlib.sha256(decoded.astype("<f4").tobytes()).hexdigest()
        index[name] = {"backend": backend, "decoded_sha256": digest}
    record = {"tables_fingerprint": tables.fingerprint, "cases": index}
    (FOLDER / "index.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
