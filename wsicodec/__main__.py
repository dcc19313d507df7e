"""Lets `python -m wsicodec` be the command line."""

import sys

from wsicodec.cli import main

if __name__ == "__main__":
    sys.exit(main())
