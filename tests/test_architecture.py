"""Who may import whom, read from the syntax tree, imports inside functions included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = {"config", "errors", "geometry"}

# First name inside the package -> what it may import of ours; its own files always.
ALLOWED: dict[str, set[str]] = {
    "__init__": {"api", "errors"},
    "__main__": {"cli"},
    "errors": set(),
    "geometry": {"errors"},
    "config": {"errors"},
    "presets": {"config", "errors"},
    "resample": {"errors", "geometry"},
    "ops": BASE | {"wsicodec_kernels"},
    "slide": BASE | {"resample"},
    "coding": BASE,
    "metrics": BASE | {"resample"},
    "models": BASE | {"coding", "ops", "resample"},
    "diffusion": BASE | {"ops", "resample"},
    "zoomldm": BASE | {"diffusion", "models", "resample"},
    "synthesis": BASE | {"coding", "diffusion", "models"},
    "importing": BASE | {"__init__", "coding", "diffusion", "models"},
    "codec": BASE | {"coding", "diffusion", "models", "ops", "resample", "zoomldm"},
    "store": BASE | {"__init__", "codec", "coding", "models", "presets", "resample", "slide"},
    "train": BASE
    | {"coding", "diffusion", "metrics", "models", "ops", "presets", "resample", "slide"},
    "api": BASE
    | {"codec", "importing", "models", "presets", "slide", "store", "synthesis", "zoomldm"},
    "bench": BASE
    | {"__init__", "api", "coding", "metrics", "models", "presets", "resample", "slide"},
    "progress": set(),
    "stranger": set(),
    "demo": {"api", "errors", "geometry", "resample", "slide", "store"},
    "cli": {
        "__init__",
        "api",
        "cli_bench",
        "cli_model",
        "cli_sample",
        "demo",
        "errors",
        "progress",
    },
    "cli_bench": {"bench", "progress"},
    "cli_model": {"api"},
    "cli_sample": {"api", "progress"},
    "wsicodec_kernels": set(),
}

# Library -> the modules, or the packages with all in them, that may import it.
ONLY_IN: dict[str, set[str]] = {
    "constriction": {"coding"},
    "anndata": {"store.layouts"},
    "blosc2": {"coding"},
    "h5py": {"store.features"},
    "huggingface_hub": {"importing.hub"},
    "onnxruntime": {"metrics", "models", "train"},
    "openslide": {"slide.openslide_reader"},
    "rich": {"progress"},
    "tifffile": {"slide", "store"},
    "torch": {
        "bench.ceiling",
        "bench.learned",
        "codec.draw_device",
        "diffusion",
        "metrics",
        "models",
        "ops",
        "train",
        "wsicodec_kernels",
        "zoomldm",
    },
    "triton": {"wsicodec_kernels"},
    "zarr": {"api", "codec", "store", "stranger"},
}


def sources() -> list[tuple[str, Path]]:
    """Every module of ours as its dotted name inside the package, and its file."""
    found = []
    for root, prefix in ((ROOT / "wsicodec", ""), (ROOT / "kernels/wsicodec_kernels", "kernels")):
        for path in sorted(root.rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found.append((f"wsicodec_kernels.{name}" if prefix else name, path))
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported anywhere in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module


def complaints(name: str, tree: ast.AST) -> list[str]:
    """What module `name` imports and may not."""
    here = name.split(".")[0]
    found = []
    for imported in imports(tree):
        top, *rest = imported.split(".")
        if top in ("wsicodec", "wsicodec_kernels"):
            there = "wsicodec_kernels" if top == "wsicodec_kernels" else _inside(rest)
            if there != here and there not in ALLOWED[here]:
                found.append(f"{name} imports {imported}")
        elif top in ONLY_IN and not {name, here} & ONLY_IN[top]:
            found.append(f"{name} imports {imported}")
    return found


def _inside(parts: list[str]) -> str:
    return parts[0] if parts and parts[0] in ALLOWED else "__init__"


@pytest.mark.parametrize(("name", "path"), [pytest.param(*s, id=s[0]) for s in sources()])
def test_a_module_imports_only_what_its_layer_may(name: str, path: Path) -> None:
    assert name.split(".")[0] in ALLOWED, f"{name} has no row in the table"
    assert complaints(name, ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("coding.quantizer", "import torch"),
        ("coding.quantizer", "def f():\n    import torch.nn"),
        ("diffusion.sampler", "from wsicodec.models import unet"),
        ("slide.base", "import importlib\nimportlib.import_module('wsicodec.store')"),
        ("slide.base", "import openslide"),
        ("errors", "from wsicodec import geometry"),
        ("models.vit", "import wsicodec_kernels"),
        ("codec.pixels_zarr", "import wsicodec"),
        ("wsicodec_kernels.blend", "from wsicodec.errors import WsiCodecError"),
    ],
)
def test_the_reader_of_the_tree_sees_a_forbidden_import(name: str, code: str) -> None:
    assert len(complaints(name, ast.parse(code))) == 1


def test_layers_have_no_cycle() -> None:
    order: list[str] = []
    rest = dict(ALLOWED)
    while rest:
        free = [name for name, below in rest.items() if below <= {*order, name, "__init__"}]
        assert free, f"a cycle among {sorted(rest)}"
        order += free
        rest = {name: below for name, below in rest.items() if name not in free}


@pytest.mark.parametrize(("name", "path"), [pytest.param(*s, id=s[0]) for s in sources()])
def test_a_file_and_its_functions_stay_small(name: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "split it: it has two reasons to change"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{name}.{node.name} has {lines} lines"
