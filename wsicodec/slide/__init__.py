"""Slides of every make as one small protocol, and where their tissue is.

What leaves a source: pixels, micrometres per pixel, the ICC profile, and the facts named in
`base.FACTS`. Labels, macro images, barcodes, descriptions and all other free text stay behind,
because they carry names.
"""

from wsicodec.slide.base import SlideReader
from wsicodec.slide.drawn import draw_slide
from wsicodec.slide.opening import open_reader, open_slide
from wsicodec.slide.passthrough import JpegTiles
from wsicodec.slide.scaled import Slide
from wsicodec.slide.tissue import TissueMap, find_tissue

__all__ = [
    "JpegTiles",
    "Slide",
    "SlideReader",
    "TissueMap",
    "draw_slide",
    "find_tissue",
    "open_reader",
    "open_slide",
]
