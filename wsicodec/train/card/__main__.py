"""`python -m wsicodec.train.card --pack FOLDER --plan FILE --out FOLDER --state FOLDER ...`."""

import time

STARTED = time.monotonic()  # before torch is imported: that is part of the slice's time

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from wsicodec.errors import WsiCodecError  # noqa: E402


def main() -> int:
    """Parse, train a slice, and report expected failures without a traceback."""
    parser = argparse.ArgumentParser("wsicodec.train.card", description=__doc__)
    parser.add_argument("--pack", type=Path, required=True, help="folder that `pack` wrote")
    parser.add_argument("--plan", type=Path, required=True, help="JSON; see train/configs")
    parser.add_argument("--out", type=Path, required=True, help="what comes back")
    parser.add_argument("--state", type=Path, required=True, help="what stays for the next slice")
    parser.add_argument("--seconds", type=float, required=True, help="of the whole command")
    parser.add_argument("--device", default="cuda", help='"cpu" rehearses')
    parser.add_argument("--threads", type=int, default=0, help="for decoding; 0: one a core")
    parser.add_argument("--commit", default="", help="of the code, for the record")
    given = parser.parse_args()
    from wsicodec.train.card.slice import Slice, SliceOptions

    try:
        Slice(SliceOptions(**vars(given)), STARTED).run()
    except WsiCodecError as error:
        print(f"wsicodec.train.card: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
