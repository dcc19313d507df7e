"""The whole benchmark: rows, figures, report."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from wsicodec.bench.options import Options
from wsicodec.errors import ConfigError

NEEDED = ("torch", "torchmetrics", "matplotlib", "scipy")


def require_libraries() -> None:
    """Raise ConfigError unless all that measures and plots is installed."""
    missing = [name for name in NEEDED if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"the benchmark needs {', '.join(missing)}; run `pip install 'wsicodec[bench]'`"
        )


def bench(options: Options, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """Make missing rows, draw figures and write the report beside the CSV; returns the report.

    Raises ConfigError where a library is missing, or, after all else is done and written, where
    some settings failed.
    """
    require_libraries()
    from wsicodec.bench.report import write_report
    from wsicodec.bench.run import run

    failed = run(options, progress)
    report = write_report(options.out)
    if failed:
        raise ConfigError(f"{len(failed)} settings failed, the rest stands in {report}: {failed}")
    return report
