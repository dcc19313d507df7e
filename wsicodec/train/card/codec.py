"""Tables of a new embedder, fitted on the card: its old ones do not know the new vectors."""

from dataclasses import replace

import numpy as np

from wsicodec.coding.fit import fit_tables
from wsicodec.errors import ConfigError
from wsicodec.train.card.deck import Deck
from wsicodec.train.codec import CodecFit
from wsicodec.train.config import build


def refit(deck: Deck) -> None:
    """Replace the deck's tables and scale by ones fitted to its embedder, as stage `codec` does."""
    config = build(CodecFit, deck.configs["codec"])
    makers = replace(deck.makers(), tables=None, scale=1.0)
    variants = deck.variants(0, makers)
    grids, taken = [], dict[str, int]()
    for place, spot in enumerate(variants.spots):
        plane = int(variants.grid_planes[place, 0])
        if plane < 0 or spot.mag_index != 0 or taken.get(spot.source, 0) >= config.source_cap:
            continue
        grid = variants.grids.plane(plane).cpu().numpy()[..., :-1]
        taken[spot.source] = taken.get(spot.source, 0) + int((grid != 0).any(-1).sum())
        grids.append(grid)
    if not grids:
        raise ConfigError("expected embeddings of pictures at 20x to fit tables to, found none")
    deck.tables = fit_tables(grids, target_bytes=config.bytes_per_vector)
    deck.scale = float(np.concatenate([g[(g != 0).any(-1)] for g in grids]).std())
