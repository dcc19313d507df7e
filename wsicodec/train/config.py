"""Run configurations: frozen dataclasses filled from a JSON file, every key known."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, cast

from wsicodec.errors import ConfigError

C = TypeVar("C")


def load_config(kind: type[C], path: Path) -> C:
    """Read a configuration file; what it does not name keeps its default.

    Raises ConfigError on unreadable files, unknown keys and values of another type.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a JSON configuration at {path}: {error}") from error
    return build(kind, record)


def build(kind: type[C], record: Any, where: str = "") -> C:
    """A dataclass of type `kind` from nested dictionaries; `where` names the place in messages."""
    if not isinstance(record, dict):
        raise ConfigError(f"expected settings at {where or 'the top'}, got {record!r}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(cast(Any, kind))}
    unknown = sorted(set(record) - known)
    if unknown:
        raise ConfigError(f"expected keys {sorted(known)} at {where or 'the top'}, got {unknown}")
    values = {k: _convert(hints[k], v, f"{where}.{k}".lstrip(".")) for k, v in record.items()}
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        same = len(arguments) == 2 and arguments[1] is Ellipsis
        kinds = [arguments[0]] * len(value) if same else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"expected {len(kinds)} values at {where}, got {value!r}")
        return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        return value
    plain = origin or hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        raise ConfigError(f"expected {plain.__name__} at {where}, got {value!r}")
    return value


def to_record(config: Any) -> dict[str, Any]:
    """A JSON-safe copy of a configuration; `build` reads it back."""
    return cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config))))
