"""Level 0 as the source's own JPEG tiles, copied byte for byte."""

from wsicodec.coding.images import ImageFormat, pack_tiles
from wsicodec.slide.passthrough import JpegTiles
from wsicodec.store.job import Job, Objects
from wsicodec.store.plan import Picture


def tile_format(tiles: JpegTiles) -> ImageFormat:
    """How a source's tiles are described in the store."""
    return ImageFormat(
        "jpeg_tiles",
        tile=tiles.tile_shape,
        tables=tiles.tables,
        colourspace=tiles.colourspace.lower(),
    )


def copy_row(job: Job, tiles: JpegTiles, picture: Picture, i: int) -> Objects:
    """Write row `i` of a picture's chunks out of the source's tiles."""
    objects: Objects = {}
    down, across = (c // t for c, t in zip(picture.chunk, tiles.tile_shape, strict=True))
    rows, columns = tiles.grid
    for j in range(-(-columns // across)):
        chunk = [
            [
                tiles.read(ty, tx) if ty < rows and tx < columns else b""
                for tx in range(j * across, (j + 1) * across)
            ]
            for ty in range(i * down, (i + 1) * down)
        ]
        objects |= job.write(picture.chunk_path(i, j), pack_tiles(chunk))
    return objects
