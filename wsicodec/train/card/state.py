"""Where a plan stands: kept on the card's disk between slices, or carried in a pack."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.errors import ConfigError
from wsicodec.train.card import archive
from wsicodec.train.card.deck import Deck
from wsicodec.train.card.plan import Plan
from wsicodec.train.checkpoint import part
from wsicodec.train.config import to_record

NAME = "state.npz"


@dataclass
class Standing:
    """Facts that go on from slice to slice."""

    begun: int = 0  # slices
    progress: float = 0.0  # of the plan, 0 to 1
    seen: dict[str, int] = field(default_factory=dict)  # patches, by stage
    batches: dict[str, int] = field(default_factory=dict)  # the next one's number, by stage
    seconds: dict[str, float] = field(default_factory=dict)  # in the loop, by stage
    trained: list[str] = field(default_factory=list)  # groups that are no longer as packed

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Standing":
        """Read it back; keys of other kinds of records are passed over."""
        return cls(**{k: record[k] for k in asdict(cls()) if k in record})


def save(folder: Path, deck: Deck, standing: Standing, training: archive.Arrays) -> None:
    """Write all that the next slice needs: `training` is the stage at hand with its optimizer."""
    arrays = {f"training.{k}": v for k, v in training.items()}
    for group, tensors in deck.weights.items():
        found = archive.to_arrays(tensors, half=False)
        arrays |= {f"groups.{group}.{k}": v for k, v in found.items()}
    arrays |= {f"tables.{k}": v for k, v in deck.tables.to_tensors().items()}
    facts = asdict(standing) | {"plan": to_record(deck.plan), "scale": deck.scale}
    archive.save(folder / NAME, arrays, facts)


def load(folder: Path, plan: Plan) -> tuple[archive.Arrays, dict[str, Any]] | None:
    """Arrays and facts of the last slice, None when this is the first one on this machine.

    Raises ConfigError when they belong to another plan.
    """
    if not (folder / NAME).exists():
        return None
    arrays, facts = archive.load(folder / NAME)
    if facts["plan"] != to_record(plan):
        raise ConfigError(f"expected the state in {folder} to be of this plan; name another folder")
    return arrays, facts


def restore(deck: Deck, arrays: archive.Arrays, facts: dict[str, Any]) -> archive.Arrays:
    """Put networks and tables back into the deck; gives the training state."""
    for group in {k.split(".")[1] for k in arrays if k.startswith("groups.")}:
        deck.weights[group] = archive.to_tensors(_part(arrays, f"groups.{group}."))
    deck.tables = EmbeddingTables.from_tensors(_part(arrays, "tables."))
    deck.scale = float(facts["scale"])
    return _part(arrays, "training.")


def _part(arrays: archive.Arrays, prefix: str) -> archive.Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def take_weights(deck: Deck, arrays: archive.Arrays) -> None:
    """Fill the deck's groups from packed arrays named group.tensor."""
    tensors = archive.to_tensors(arrays)
    for group in {name.split(".")[0] for name in tensors}:
        deck.weights[group] = part(tensors, f"{group}.")
