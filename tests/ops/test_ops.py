"""Ops on a CPU: values of the references, registration, gradients."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from tests.checks import modules_loaded_by  # noqa: E402
from wsicodec import ops  # noqa: E402
from wsicodec.diffusion.solvers import clean_from_noise, ddim_step  # noqa: E402
from wsicodec.ops.forms import FORMS  # noqa: E402

pytestmark = pytest.mark.torch


def a_map(*shape: int) -> Tensor:
    made: Tensor = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    return made


def examples() -> dict[str, tuple[Any, ...]]:
    """Arguments of every registered op."""
    vector = torch.randn(8)
    tokens, columns = torch.randn(3, 4, 8), torch.randn(2, 16)
    index = torch.tensor([[0, -1]], dtype=torch.int32)
    origins = torch.tensor([[0, 0], [2, 3]], dtype=torch.int32)
    told = (torch.randn(2, 8, 16), columns, columns, torch.randn(2, 16, 8))
    return {
        "_attention": (tokens, tokens, tokens, None, vector, 2, 0.5),
        "_condition": (tokens, *told, vector, vector, vector, 9, 1e-5),
        "_group_norm": (a_map(2, 5, 3, 4), vector, vector, a_map(2, 3, 3, 4), vector, None, 2, 1e-5,
                        True),
        "_channel_norm": (a_map(2, 8, 3, 4), vector, True, 1e-6, True),
        "_film_silu": (a_map(2, 4, 3, 5), a_map(2, 8, 1, 1), True),
        "_geglu": (tokens,),
        "_residual": (a_map(2, 8, 3, 4), a_map(2, 8, 3, 4), vector),
        "_guided_step": (tokens, tokens + 1, tokens - 1, None, 2.0, [0.5, 0.2, 0.0], [0.0, 1.0]),
        "_upsample_conv": (a_map(2, 4, 3, 5), torch.randn(2, 2, 8, 2, 2, 4), vector),
        "_project_symbols": (torch.zeros(2, 3, dtype=torch.int8), vector[:3], vector[:3], index,
                             torch.randn(8, 3), vector, vector),
        "_nearest_entry": (a_map(1, 3, 2, 4), torch.randn(6, 3), torch.randn(6, 5)),
        "_blend_windows": (a_map(2, 3, 4, 4), torch.ones(4, 4), origins, 6, 7, 0.5),
    }  # fmt: skip


def test_there_is_an_example_of_every_op() -> None:
    assert set(examples()) == set(FORMS)
    assert {f"_{name}" for name in ops.__all__} == {*FORMS, "_use_table"}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_an_op_is_registered_as_it_behaves(name: str) -> None:
    """Schema, and shapes and layout that a compiler is told."""
    op = getattr(torch.ops.wsicodec, name).default
    torch.library.opcheck(op, examples()[name], test_utils=("test_schema", "test_faketensor"))


def test_a_compiler_sees_one_node_per_op() -> None:
    """On tensors of no device, as on CUDA; a break of the graph would raise."""

    def block(x: Tensor, weight: Tensor) -> Tensor:
        return ops.group_norm(x, weight, weight, groups=2) * 2

    seen: list[str] = []

    def backend(graph: Any, _: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    with torch.no_grad():
        x, weight = torch.empty(1, 4, 3, 3, device="meta"), torch.empty(4, device="meta")
        made = torch.compile(block, backend=backend, fullgraph=True)(x, weight)
    assert made.shape == x.shape
    assert [name for name in seen if "wsicodec" in name] == ["wsicodec._group_norm.default"]


def test_gradients_reach_every_input() -> None:
    x, film = a_map(1, 4, 2, 3).double(), torch.randn(1, 8, 1, 1).double()
    weight = torch.randn(4).double()
    given = [t.requires_grad_() for t in (x, film, weight)]
    assert torch.autograd.gradcheck(ops.film_silu, (x, film))
    assert torch.autograd.gradcheck(lambda x, w: ops.channel_norm(x, w, activate=True), (x, weight))
    flat = film.flatten(1)
    assert torch.autograd.gradcheck(
        lambda x, w, f: ops.group_norm(x, w, w, film=f, groups=2), (given[0], given[2], flat)
    )


def test_a_group_norm_of_a_stack_hears_time_and_film() -> None:
    x, second, weight = torch.randn(2, 6, 3, 4), torch.randn(2, 2, 3, 4), torch.randn(8)
    time, film = torch.randn(2, 8), torch.randn(2, 16)
    got = ops.group_norm(x, weight, weight, second=second, added=time, film=film, groups=4)
    stack = torch.cat((x, second), 1) + time[:, :, None, None]
    normal = F.group_norm(stack, 4, weight, weight)
    wanted = F.silu(normal * (1 + film[:, :8, None, None]) + film[:, 8:, None, None])
    torch.testing.assert_close(got, wanted)


def test_a_solver_step_is_ddim_with_guidance() -> None:
    x, free, told = torch.randn(3, 2, 4, 4).unbind(1)[0], torch.randn(3, 4, 4), torch.randn(3, 4, 4)
    here, there, scale = 0.3, 0.6, 2.0
    eps = free + scale * (told - free)
    wanted = ddim_step(x, eps, here, there)
    ratio = (there / here) ** 0.5
    move = (ratio, (1 - there) ** 0.5 - ratio * (1 - here) ** 0.5, 0.0)
    keep = (here**-0.5, -(((1 - here) / here) ** 0.5))
    got, clean = ops.guided_step(x, told, free, scale=scale, move=move, keep=keep)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(clean, clean_from_noise(x, eps, here))


def test_symbols_become_tokens_and_padding() -> None:
    symbols = torch.tensor([[1, -2], [3, 4]], dtype=torch.int8)
    steps, offsets = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 0.0])
    index = torch.tensor([[1, -1, 0]], dtype=torch.int32)
    got = ops.project_symbols(
        symbols, steps, offsets, index, torch.eye(2), torch.tensor([0.0, 10.0]), torch.ones(2)
    )
    assert got.tolist() == [[[2.5, 18.0], [1.0, 1.0], [1.5, 6.0]]]


def test_the_nearest_code_gives_its_entry() -> None:
    codes, table = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[7.0], [9.0]])
    latent = torch.tensor([[0.2, 0.9], [0.1, 0.6]]).view(1, 2, 1, 2)
    assert ops.nearest_entry(latent, codes, table).flatten().tolist() == [7, 9]


def test_windows_blend_by_their_weights_and_stick_out() -> None:
    low, high = torch.full((1, 3, 2, 2), -1.0), torch.full((1, 3, 2, 2), 1.0)
    weights = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    picture = ops.blend_windows(
        torch.cat((low, high)), weights, torch.tensor([[0, 0], [-1, 1]]), (3, 4)
    )
    # Where both lie, row 0 and column 1: 3 parts black and 1 part white.
    assert picture[..., 0].tolist() == [[0, 64, 255, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_kernels_are_not_imported_without_a_card() -> None:
    code = "import torch\nfrom wsicodec import ops\nops.geglu(torch.ones(2, 4))"
    loaded = modules_loaded_by(code)
    assert "wsicodec" in loaded
    assert "wsicodec_kernels" not in loaded
