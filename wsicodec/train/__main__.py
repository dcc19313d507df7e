"""`python -m wsicodec.train STAGE --config FILE [--threads N]`."""

import argparse
import sys
from pathlib import Path

from wsicodec.errors import WsiCodecError
from wsicodec.train.stages import STAGES, run


def main() -> int:
    """Parse, run, and report expected failures without a traceback."""
    parser = argparse.ArgumentParser("wsicodec.train", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--config", type=Path, required=True, help="JSON; see train/configs")
    parser.add_argument("--threads", type=int, default=1, help="per process")
    given = parser.parse_args()
    try:
        run(given.stage, given.config, given.threads)
    except WsiCodecError as error:
        print(f"wsicodec.train: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
