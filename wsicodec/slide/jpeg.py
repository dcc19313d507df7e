"""What a JPEG stream says of itself, without decoding it."""

STANDARD_LUMA_SUM = 3688  # of the 64 entries of ITU-T T.81 table K.1
SOI, EOI, SOS, DQT = b"\xff\xd8", b"\xff\xd9", b"\xff\xda", 0xDB


def jpeg_quality(data: bytes) -> int | None:
    """Estimate the IJG quality of a JPEG stream or of a TIFF's JPEGTables.

    Inverts the scaling of ITU-T T.81 table K.1 by libjpeg's jpeg_quality_scaling on the mean of
    the first quantisation table. None if the stream has no table of 8 bits.
    """
    at = 2 if data.startswith(SOI) else 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == DQT:
            return _quality_of_table(data[at + 4 : at + 2 + length])
        if data[at : at + 2] == SOS:
            break
        at += 2 + length
    return None


def _quality_of_table(segment: bytes) -> int | None:
    if len(segment) < 65 or segment[0] >> 4:
        return None
    percent = 100 * sum(segment[1:65]) / STANDARD_LUMA_SUM
    quality = 5000 / percent if percent > 100 else (200 - percent) / 2
    return max(1, min(100, round(quality)))


def is_whole(data: bytes) -> bool:
    """Whether a JPEG file ends its last scan; libjpeg itself fills a cut one up with gray."""
    return data.rfind(EOI) > data.rfind(SOS) >= 0
