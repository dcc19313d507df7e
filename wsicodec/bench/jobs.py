"""Which codecs are run at which settings, most telling first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from wsicodec.bench.options import OURS, Options
from wsicodec.bench.ours import Drawing
from wsicodec.bench.rivals import FACTORS, RIVALS, settings
from wsicodec.errors import ConfigError
from wsicodec.models.bundle import Bundle
from wsicodec.presets import find_preset

PER_RIVAL = 5  # settings at every factor


@dataclass(frozen=True)
class Job:
    """One row in the making, but for its level."""

    codec: str
    setting: str
    seed: int = 0


def reduced(options: Options) -> Options:
    """What `--quick` leaves of a run."""
    if not options.quick:
        return options
    return replace(options, steps=(), quantizers=(), seeds=1, fields=1, draws=20)


def plan(options: Options, bundle: Bundle) -> list[Job]:
    """All jobs of a run.

    Raises ConfigError where a codec was asked for that cannot run.
    """
    chosen = [c for c in options.codecs or _able(options) if c not in options.without]
    rivals = tuple(c for c in chosen if c not in OURS)
    jobs = list(_ours(options, bundle)) if "wsicodec" in chosen else []
    if "anchor" in chosen:
        jobs += [Job("anchor", name) for name in options.presets if bundle.anchor(name)]
    if "autoencoder" in chosen:
        jobs.append(Job("autoencoder", "alone"))
    if "memory" in chosen:
        if options.train is None:
            raise ConfigError("expected --train INDEX for the memorising decoder's tiles")
        jobs.append(Job("memory", "nearest tile"))
    factors, count = ((4, 1), 2) if options.quick else (FACTORS, PER_RIVAL)
    for one in settings(rivals, factors, count):
        codec, setting = one.split(maxsplit=1)
        jobs.append(Job(codec, setting))
    return jobs + [Job("compressai", setting) for setting in options.compressai]


def _able(options: Options) -> list[str]:
    """Codecs of a run that names none."""
    ours = [c for c in OURS if c != "memory" or options.train is not None]
    return ours + [name for name, rival in RIVALS.items() if rival.available]


def _ours(options: Options, bundle: Bundle) -> Iterator[Job]:
    """Presets and seeds, then steps and quantisers; a measured level is drawn by nobody."""
    presets = [find_preset(name).name for name in options.presets]
    if options.quick:
        presets = [name for name in presets if name != "measured"]
    drawn = [name for name in presets if name != "measured"]
    for seed in range(options.seeds):
        for name in drawn if seed else presets:
            yield Job("wsicodec", name, seed)
    for name in (find_preset(name).name for name in options.sweep):
        if name in drawn:
            for steps in options.steps:
                if steps != bundle.steps:
                    yield Job("wsicodec", Drawing(name, steps).setting)
            for factor in options.quantizers:
                yield Job("wsicodec", Drawing(name, quantizer=factor).setting)
