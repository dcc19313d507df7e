"""Frozen records that travel: what a store says of itself, and how a reader wants it drawn."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from wsicodec.errors import ConfigError, StoreError

STORE_FORMAT = 1
NOTICE = "Generated pixels are synthesised from embeddings and are not for diagnosis."
SYNTHETIC_NOTICE = (
    "This slide never existed: no patient and no section stand behind it. All of it, the glass "
    "included, was drawn by a model; it is not for diagnosis."
)

BLANK, GENERATED, MEASURED = 0, 1, 2  # values of the tissue array, one per level-0 patch


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The `wsicodec` attribute of a store's root: all a decoder needs to know besides the arrays.

    Everything is in the frame of level 0 unless its name says otherwise.
    """

    slide: str  # 32 hex digits; digest of every stored payload, seeds the noise
    fingerprint: str  # 64 hex digits; of the bundle whose weights draw this slide
    bundle: str  # the bundle's name, for messages
    shape: tuple[int, int]  # height, width in pixels
    mpp: float  # true micrometres per pixel
    mpp_source: str  # where the mpp was found: a property's name, or "caller"
    preset: str  # name of the preset that wrote it
    measured: dict[int, str]  # level -> path of the array that holds its real pixels
    sketch: dict[int, str] = field(default_factory=dict)  # level -> digest of what computes it
    roi: tuple[tuple[int, int, int, int], ...] = ()  # y0, x0, y1, x1 kept measured in roi/
    background: tuple[int, int, int] = (255, 255, 255)  # RGB of glass
    steps: int = 4  # denoising steps that a reader takes unless told otherwise
    source: dict[str, Any] = field(default_factory=dict)  # derivation: allow-listed facts only
    encoder: str = ""  # name and version of the program that wrote it
    notice: str = NOTICE
    format: int = STORE_FORMAT

    @property
    def synthetic(self) -> bool:
        """Whether no section stands behind it: every tile is generated, the glass too."""
        return self.source.get("synthetic") is True

    @property
    def pictures(self) -> dict[int, str]:
        """Level -> path of every array of pixels: the real ones, and a synthetic slide's sketch."""
        sketched = self.source.get("sketch", {}) if self.synthetic else {}
        return self.measured | {int(level): str(path) for level, path in sketched.items()}

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        record = dataclasses.asdict(self)
        record["measured"] = {str(level): path for level, path in self.measured.items()}
        record["shape"], record["background"] = list(self.shape), list(self.background)
        record["roi"] = [list(r) for r in self.roi]
        record["sketch"] = {str(level): digest for level, digest in self.sketch.items()}
        if not self.sketch:
            del record["sketch"]  # earlier versions read what has none, and refuse what has one
        return record

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Read the attribute back; raises StoreError on anything unknown, missing or newer."""
        if not isinstance(record, dict) or "format" not in record:
            raise StoreError(
                "expected a wsicodec store, but the root has no 'wsicodec' attribute; "
                "open the slide's own root, or encode the slide first"
            )
        if record["format"] != STORE_FORMAT:
            raise StoreError(
                f"expected store format {STORE_FORMAT}, got {record['format']!r}; "
                "read it with the version of wsicodec that wrote it, or a later one"
            )
        names = {f.name for f in dataclasses.fields(cls)}
        unknown = {k for k in record if k not in names and not k.startswith("x-")}
        if unknown:
            raise StoreError(f"the store's wsicodec attribute has unknown keys {sorted(unknown)}")
        try:
            values = {k: v for k, v in record.items() if k in names}
            values["shape"] = tuple(int(n) for n in record["shape"])
            values["measured"] = {int(k): str(v) for k, v in record["measured"].items()}
            values["sketch"] = {int(k): str(v) for k, v in record.get("sketch", {}).items()}
            values["roi"] = tuple(tuple(int(n) for n in r) for r in record.get("roi", ()))
            values["background"] = tuple(int(n) for n in record.get("background", (255,) * 3))
            info = cls(**values)
            _ = info.pictures  # its source may be malformed, too
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise StoreError(f"the store's wsicodec attribute is malformed: {error}") from error
        return info


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How a reader wants generated pixels drawn; part of every cache key."""

    steps: int = 0  # denoising steps; 0 means what the store asks for
    backend: str = "auto"  # "auto", "onnx" or "torch"
    allow_generated: bool = True  # False: raise GeneratedPixelsError instead of inventing

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= 1000:
            raise ConfigError(f"expected steps between 1 and 1000 (0: default), got {self.steps}")
        if self.backend not in ("auto", "onnx", "torch"):
            raise ConfigError(f"expected backend auto, onnx or torch, got {self.backend!r}")
