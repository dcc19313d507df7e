"""The main job from end to end: encode a slide, reopen it, put both side by side.

The store is read back in another process that knows zarr and not wsicodec; zarr finds the codecs by
their entry points. Figures printed are those of this run on this machine.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsicodec import api
from wsicodec.errors import StoreError
from wsicodec.geometry import Region
from wsicodec.resample import box_reduce
from wsicodec.slide import Slide, draw_slide, open_slide

if TYPE_CHECKING:
    from wsicodec.store.report import EncodeReport

DRAWN_SHAPE = (6144, 8192)  # pixels of the slide that is drawn when none is given
ROWS = 5  # levels in the picture, from the finest
SIDE = 384  # pixels of a view in it
CAPTION = 20  # pixels above a view
GAP = 16  # pixels between views

View = dict[str, Any]  # level, y, x, seconds


def run(
    source: str | None,
    out: str | Path,
    *,
    preset: str = "standard",
    mpp: float | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Encode `source`, read the store back in another process, print figures, save a picture.

    Args:
        source: a slide; one is drawn if None.
        out: folder for the drawn slide, the store and the picture, created if needed.
        preset: how much is stored.
        mpp: micrometres per pixel of the source, if it does not say.
        progress: told how many pieces of how many are done, and what a piece is.

    Returns:
        The picture, original beside decoded.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    slide_path = Path(source) if source else _drawn(folder / "drawn.tif")
    store = folder / f"{slide_path.stem}.{preset}.zarr"

    report = api.encode(
        slide_path, store, preset=preset, mpp=mpp, overwrite=True, progress=progress
    )
    seen, decoded = _read_as_a_stranger(store, folder / "views.npz")
    with open_slide(slide_path, mpp=mpp) as slide:
        originals = [_original(slide, view, image) for view, image in decoded]
        l0_mpp = slide.mpp
    _print_store(slide_path, report, seen)
    captions = _print_levels(decoded, originals, seen["attributes"]["measured"], l0_mpp)
    picture = store.with_suffix(".png")
    _draw_picture([image for _, image in decoded], originals, captions, picture)
    print("level 0 is read first: its seconds hold the loading of the model and all levels above")
    print(f"\npicture  {picture}   left: original, right: decoded")
    return picture


def _drawn(path: Path) -> Path:
    if not path.exists():
        began = time.perf_counter()
        part = path.with_suffix(".part.tif")
        draw_slide(part, size=DRAWN_SHAPE)
        part.replace(path)
        print(f"drew     {path} in {time.perf_counter() - began:.1f} s")
    return path


def _read_as_a_stranger(
    store: Path, target: Path
) -> tuple[dict[str, Any], list[tuple[View, NDArray[np.uint8]]]]:
    # -P keeps the program's own folder, this package's, off the path.
    program = [sys.executable, "-P", str(Path(__file__).with_name("stranger.py"))]
    command = [*program, str(store), str(SIDE), str(ROWS), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StoreError(f"expected zarr.open alone to read {store}, but it said: {last}")
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    with np.load(target) as arrays:
        images = [arrays[str(view["level"])] for view in seen["views"]]
    target.unlink()
    return seen, list(zip(seen["views"], images, strict=True))


def _original(slide: Slide, view: View, decoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same place of the slide, box-filtered from level 0 in strips of its own height."""
    factor = 1 << int(view["level"])
    height, width = decoded.shape[:2]
    l_place = Region(view["y"], view["x"], view["y"] + height, view["x"] + width)
    l0_place = l_place.scale_up(factor)
    rows = max(factor, 512 // factor * factor)
    strips = [
        box_reduce(
            slide.read(Region(y, l0_place.x0, min(y + rows, l0_place.y1), l0_place.x1)), factor
        )
        for y in range(l0_place.y0, l0_place.y1, rows)
    ]
    return np.concatenate(strips)


def _print_store(slide: Path, report: "EncodeReport", seen: dict[str, Any]) -> None:
    height, width = seen["shape"][:2]
    speed = report.slide_pixels / 1e6 / report.seconds
    print(f"slide    {slide}: {slide.stat().st_size:,} bytes")
    print(f"store    {report.path}: {report.bytes:,} bytes; level 0 is {height} x {width} px")
    print(
        f"rate     {report.bpp_tissue:.4f} bpp over tissue, {report.bpp_slide:.4f} over the slide"
    )
    print(f"encode   {report.seconds:.1f} s, {speed:.2f} Mpx/s, {report.patches} patches embedded")
    print(f"reopen   {seen['opened']:.2f} s in another process, by zarr alone")
    print(f"vectors  embeddings {' x '.join(map(str, seen['embeddings']))}")


def _print_levels(
    decoded: list[tuple[View, NDArray[np.uint8]]],
    originals: list[NDArray[np.uint8]],
    measured: dict[str, str],
    l0_mpp: float,
) -> list[str]:
    """Print a line per level; return what the picture says above each."""
    finest_real = min(map(int, measured), default=None)
    print("\nlevel  um/px    pixels     PSNR dB  seconds   view")
    captions = []
    for (view, image), original in zip(decoded, originals, strict=True):
        level = view["level"]
        real = finest_real is not None and level >= finest_real
        kind, scale = "measured" if real else "generated", l0_mpp * 2**level
        psnr = _psnr(image, original)
        height, width = image.shape[:2]
        print(
            f"{level:<6} {scale:<8.3f} {kind:<10} {psnr:<8.2f} {view['seconds']:<9.2f} "
            f"{height} x {width} at y {view['y']}, x {view['x']}"
        )
        captions.append(f"level {level}  {scale:.2f} um/px  {kind}  {psnr:.2f} dB")
    return captions


def _psnr(image: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, of 8-bit RGB; infinite for equal images."""
    error = float(np.mean((image.astype(np.float64) - original) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _draw_picture(
    decoded: list[NDArray[np.uint8]],
    originals: list[NDArray[np.uint8]],
    captions: list[str],
    path: Path,
) -> None:
    row = SIDE + CAPTION + GAP
    sheet = Image.new("RGB", (2 * SIDE + 3 * GAP, len(captions) * row + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (original, image, caption) in enumerate(zip(originals, decoded, captions, strict=True)):
        top = GAP + i * row
        draw.text((GAP, top), f"original   |   decoded: {caption}", fill="black")
        for column, pixels in enumerate((original, image)):
            place = (GAP + column * (SIDE + GAP), top + CAPTION)
            sheet.paste(Image.fromarray(pixels), place)
    sheet.save(path)
