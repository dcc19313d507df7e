"""What kernels take, built ahead of time: the committed budget, and three builds against it."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
]


BASE = "3.6.0"  # the version of Triton that all architectures are budgeted for


def test_the_budget_holds_every_build_and_none_spills_or_overflows() -> None:
    from benchmarks.kernel_budget import complaints, load, planned
    from benchmarks.kernel_build import ARCHITECTURES, Resources

    plans = {key: (op, card) for key, op, _, card in planned("", list(ARCHITECTURES))}
    budget = load()
    assert {card for _, card in plans.values()} == set(ARCHITECTURES)
    assert set(plans) == set(budget[BASE]), "run python -m benchmarks.kernel_budget --write"
    for version, builds in budget.items():
        cards = {key.rsplit("_", 1)[1] for key in builds}  # other versions: some architectures
        assert {key for key in plans if key.rsplit("_", 1)[1] in cards} == set(builds), version
        wrong = {
            key: complaints(plans[key][0], Resources(**row), None, plans[key][1])
            for key, row in builds.items()
        }
        assert {key: found for key, found in wrong.items() if found} == {}, version


def test_calls_of_one_title_start_the_same_kernels() -> None:
    """One of them is built, so no other may be compiled from other types or constants."""
    from benchmarks.kernel_budget import launches
    from benchmarks.kernel_build import specialized
    from benchmarks.kernel_small_calls import small_calls

    found: dict[str, set[str]] = {}
    for call in small_calls():
        (launch,) = launches(call, 90)
        found.setdefault(call.title, set()).add(f"{launch.constants} {specialized(launch)}")
    assert {title for title, kinds in found.items() if len(kinds) > 1} == set()
    ops = {title.split()[0] for title in found}
    assert ops == {"channel_norm", "film_silu", "residual", "guided_step", "blend_windows"}


@pytest.mark.parametrize(
    "name",
    ["attention 384 wide, 1024 queries and", "condition 384 wide", "guided_step of small"],
)
def test_a_build_for_sm_90_keeps_to_the_budget(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton

    from benchmarks.kernel_budget import complaints, load, planned
    from benchmarks.kernel_build import build

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # its default changes, with a warning
    budget = load().get(triton.__version__, {})
    (found,) = (plan for plan in planned("", [90]) if plan[0].startswith(name))
    key, op, launch, architecture = found
    assert complaints(op, build(launch, architecture), budget.get(key), architecture) == []


def test_a_regression_is_told() -> None:
    from benchmarks.kernel_budget import complaints
    from benchmarks.kernel_build import Resources

    row = {"registers": 100, "shared_bytes": 50_000, "wide_loads": 4}
    good = Resources(110, 0, 0, 50_000, "HGMMA", 4)
    assert complaints("attention", good, row, 90) == []
    bad = Resources(120, 8, 0, 300_000, "HMMA", 0)
    told = "; ".join(complaints("attention", bad, row, 90))
    for word in ("spills 8", "more than there is", "not HGMMA", "100 budgeted", "lost its 128"):
        assert word in told
