"""Graphs, streams and pinned memory on a card, against a plain call on the CPU."""

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from wsicodec.models.replay import Direct, Replay  # noqa: E402

pytestmark = pytest.mark.torch


def function(x: Tensor, y: Tensor) -> Tensor:
    return (x.float() * 2 + y.sum(1, keepdim=True)).round().to(torch.uint8)


def inputs() -> list[Tensor]:
    return [torch.zeros((4, 3), dtype=torch.uint8), torch.zeros((4, 2))]


def filled(place: Replay, start: int) -> Tensor:
    """Fill through NumPy, as a drawing does; returns the right answer."""
    x, y = (tensor.numpy() for tensor in place.inputs)
    x[:] = torch.arange(12).view(4, 3).numpy() + start
    y[:] = start
    return function(torch.from_numpy(x.copy()), torch.from_numpy(y.copy()))


def test_a_direct_call_reads_what_was_filled_in_and_gives_copies() -> None:
    place = Direct(function, inputs())
    for start in (0, 7):
        wanted = filled(place, start)
        place.start()
        place.wait()
        assert torch.equal(place.answer(), wanted)
        (first, second) = place.kept(2)
        assert torch.equal(first, wanted[0])
        first.zero_()
        assert torch.equal(place.answer(), wanted)
        assert torch.equal(second, wanted[1])


@pytest.mark.gpu
def test_two_captured_places_run_side_by_side() -> None:
    from wsicodec.models.cuda_graph import Captured

    device = torch.device("cuda")
    places = [Captured(function, inputs(), device) for _ in range(2)]
    for start in (0, 7, 30):
        wanted = [filled(place, start + 3 * i) for i, place in enumerate(places)]
        places[0].start()
        places[1].start(download=False)
        for place in places:
            place.wait()
        assert torch.equal(places[0].answer(), wanted[0])
        kept = places[1].kept(3)
        assert all(row.is_cuda for row in kept)
        assert torch.equal(torch.stack(kept).cpu(), wanted[1][:3])


@pytest.mark.gpu
def test_a_replayed_function_follows_its_memory() -> None:
    from wsicodec.models.cuda_graph import replayed

    x = torch.ones(8, device="cuda")
    again = replayed(lambda: x * 3, x.device)
    for value in (1.0, 5.0):
        x.fill_(value)
        assert again().tolist() == [3 * value] * 8
