"""A bundle: the folder of weights and settings that draws a family of slides.

    bundle.json              names, sizes, schedule, anchors, licence, training record
    embedder.safetensors     pixels to embeddings
    codec.safetensors        integer tables of the embeddings' entropy coder
    zoomldm.safetensors      summarizer and U-Net
    renderer.safetensors     latents over their parent to pixels
    autoencoder.safetensors  what latents are: pixels to latents and back
    embedder.onnx, denoiser.onnx, renderer.onnx    the graphs, without weights
    edm.safetensors          draws embeddings of slides that never were; optional

The fingerprint is the SHA-256 of `bundle.json` without its training record, keys sorted. As the
file lists the digest of every part, it names one exact set of weights; a store asks for its own.
The optional part and its settings are left out: no store needs them.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BundleError

BUNDLE_FORMAT = 1
DEFAULT_BUNDLE = "small"
EMBEDDED = Path(__file__).parent.parent / "bundles"
SEARCH_VARIABLE = "WSICODEC_BUNDLES"  # folders that hold further bundles, as in PATH

# Made of published checkpoints; the last is only a start for training.
PUBLISHED_FAMILIES = ("hipt-cnn", "uni-vit", "hipt-patch", "latent-diffusion")
APART = "edm"  # part and setting outside the fingerprint
_NEEDED = {
    "embed": ("embedder",),
    "encode": ("embedder", "codec"),
    "take ready features of": ("codec",),
    "decode": ("summarizer", "unet", "autoencoder", "codec"),
}


@dataclass(frozen=True, slots=True)
class AnchorPlan:
    """Which real picture a preset keeps."""

    level: int  # of the store
    codec: str  # "avif" or "jpegxl"
    quality: int  # the codec's own scale, where there is no rate to keep to
    bpp: float | None = None  # bits per level-0 pixel of tissue that it may take


class Bundle:
    """One bundle on disk; parts are read, and their digests checked, when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.config: dict[str, Any] = json.loads((path / "bundle.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(
                f"expected a bundle folder with a bundle.json at {path}: {error}"
            ) from error
        if self.config.get("format") != BUNDLE_FORMAT:
            raise BundleError(
                f"expected bundle format {BUNDLE_FORMAT} at {path}, "
                f"got {self.config.get('format')!r}"
            )
        self.fingerprint = fingerprint(self.config)

    @property
    def name(self) -> str:
        """The bundle's own name."""
        return str(self.config["name"])

    @property
    def family(self) -> str:
        """The design of its networks."""
        return str(self.config.get("family", DEFAULT_BUNDLE))

    @property
    def embedding_width(self) -> int:
        """Values per embedding."""
        embedder = self.config["embedder"]
        return int(embedder["width"]) + int(embedder.get("statistics", 0))

    @property
    def embedding_scale(self) -> float:
        """Stored embeddings are divided by this before the summarizer sees them."""
        return float(self.config["embedding_scale"])

    @property
    def latent_channels(self) -> int:
        """Channels of the diffusion autoencoder's latent."""
        return int(self.config["autoencoder"]["latent_channels"])

    @property
    def steps(self) -> int:
        """Denoising steps that suit these weights."""
        return int(self.config["schedule"]["steps"])

    def anchor(self, preset: str) -> AnchorPlan | None:
        """The real picture that `preset` keeps beside the embeddings, if any."""
        plan = self.config["anchors"].get(preset)
        return AnchorPlan(**plan) if plan else None

    def lacks(self, task: str) -> str:
        """Why this bundle cannot "encode" or "decode" a slide; empty if it can.

        The other tasks are to "embed" one, and to "take ready features of" it.
        """
        if self.family not in PUBLISHED_FAMILIES:
            return ""
        parts = [f"{part}.safetensors" for part in _NEEDED[task]]
        missing = [part for part in parts if part not in self.config["files"]]
        return f"it has no {', '.join(missing)}" if missing else ""

    def require(self, task: str) -> None:
        """Raise BundleError unless this bundle can do a task that `lacks` knows to a slide."""
        if reason := self.lacks(task):
            raise BundleError(
                f"expected a bundle that can {task} a slide, but {self.name} of family "
                f"{self.family} cannot: {reason}; take another one, such as {DEFAULT_BUNDLE!r}, "
                "or complete it: 'wsicodec model join' puts parts together, 'wsicodec model codec' "
                "fits a codec"
            )

    def read(self, part: str) -> bytes:
        """The bytes of a part, such as "codec.safetensors"; raises BundleError if they differ."""
        expected = self._expected(part)
        try:
            data = (self.path / part).read_bytes()
        except OSError as error:
            raise BundleError(f"bundle {self.name} cannot read its {part}: {error}") from error
        if hashlib.sha256(data).hexdigest() != expected:
            raise BundleError(f"{self.path / part} is damaged: its digest is not {expected[:16]}…")
        return data

    def check(self, part: str) -> Path:
        """The file of a part, its digest taken piece by piece; raises BundleError if it differs."""
        expected = self._expected(part)
        path = self.path / part
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"bundle {self.name} cannot read its {part}: {error}") from error
        if found != expected:
            raise BundleError(f"{path} is damaged: its digest is not {expected[:16]}…")
        return path

    def tensors(self, part: str) -> dict[str, NDArray[Any]]:
        """The named arrays of a safetensors part, as NumPy arrays of their stored type."""
        from safetensors.numpy import load

        return dict(load(self.read(part)))

    def weights(self, part: str) -> dict[str, NDArray[np.float32]]:
        """The named arrays of a part, in float32."""
        return {name: np.asarray(v, np.float32) for name, v in self.tensors(part).items()}

    def _expected(self, part: str) -> str:
        expected = self.config["files"].get(part)
        if expected is None:
            raise BundleError(f"bundle {self.name} has no {part}; it has {self._parts()}")
        return str(expected)

    def _parts(self) -> str:
        return ", ".join(sorted(self.config["files"]))


def fingerprint(config: dict[str, Any]) -> str:
    """64 hex digits naming a bundle: SHA-256 of its settings without the training record.

    Without the embedding diffusion model, too: with it or without it, the networks are the same.
    """
    settled = {key: value for key, value in config.items() if key not in ("record", APART)}
    if "files" in settled:
        files = settled["files"].items()
        settled["files"] = {k: v for k, v in files if k != f"{APART}.safetensors"}
    text = json.dumps(settled, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


_opened: dict[str, Bundle] = {}  # by fingerprint; so a bundle given by its folder is found again


@cache
def _open(path: Path) -> Bundle:
    bundle = Bundle(path)
    _opened.setdefault(bundle.fingerprint, bundle)
    return bundle


def load_bundle(name: str | Path | None = None) -> Bundle:
    """Open a bundle by its embedded name or its folder; None is the embedded default."""
    if name is None:
        return _open(EMBEDDED / DEFAULT_BUNDLE)
    for path in (EMBEDDED / str(name), Path(name)):
        if (path / "bundle.json").is_file():
            return _open(path.resolve())
    raise BundleError(
        f"expected the name of an embedded bundle ({', '.join(sorted(_embedded()))}) "
        f"or a folder with a bundle.json, got {str(name)!r}"
    )


def forget_bundles() -> None:
    """Read bundles anew when they are next asked for by folder, as one was changed on disk."""
    _open.cache_clear()


def find_bundle(wanted: str) -> Bundle:
    """The bundle with this fingerprint: embedded, in WSICODEC_BUNDLES, or opened before.

    Nothing is ever downloaded; raises BundleError if it is not at hand.
    """
    if wanted in _opened:
        return _opened[wanted]
    folders = [EMBEDDED / name for name in _embedded()]
    for root in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep):
        if root:
            folders += [p.parent for p in sorted(Path(root).glob("**/bundle.json"))]
    for folder in folders:
        bundle = _open(folder)
        if bundle.fingerprint == wanted:
            return bundle
    raise BundleError(
        f"this slide needs the bundle with fingerprint {wanted[:16]}…, which is not installed; "
        f"put its folder into a folder that the variable {SEARCH_VARIABLE} names"
    )


def _embedded() -> list[str]:
    return [p.parent.name for p in EMBEDDED.glob("*/bundle.json")]
