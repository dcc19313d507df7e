"""Registration: an op's one implementation, the node that a compiler sees, and its shapes."""

from collections.abc import Callable
from typing import Any

import torch

# By name; called directly where a kernel is counted, built or interpreted without a card.
FORMS: dict[str, Callable[..., Any]] = {}


def registered(shapes: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as `wsicodec::<its name>`, on every device.

    Args:
        shapes: gives empty outputs for the same arguments.
    """

    def register(form: Callable[..., Any]) -> Callable[..., Any]:
        FORMS[form.__name__] = form
        op = torch.library.custom_op(f"wsicodec::{form.__name__}", form, mutates_args=())
        op.register_fake(shapes)
        return op

    return register
