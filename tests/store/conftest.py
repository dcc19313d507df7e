"""Fixtures of the store's tests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store import kit
from wsicodec.models.bundle import SEARCH_VARIABLE, Bundle
from wsicodec.models.networks import Embedder
from wsicodec.slide.opening import Source, open_slide
from wsicodec.store.publish import Target
from wsicodec.store.writer import EncodeReport, encode_slide

Encode = Callable[..., EncodeReport]


@pytest.fixture(autouse=True)
def fake_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """A bundle and networks that cost nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SEARCH_VARIABLE, "")
        patch.setattr("wsicodec.codec.compute.choose_backend", lambda backend: "fake")
        patch.setattr("wsicodec.codec.compute.load_drawing", lambda bundle, backend: None)
        kit.install()
        yield kit.make_bundle(tmp_path_factory.getbasetemp() / "bundles" / "fake")


@pytest.fixture
def encode(fake_bundle: Bundle) -> Encode:
    """`encode_slide` of an array, with the fake bundle and embedder unless told otherwise."""

    def call(
        source: Source, dst: Target, embed: Embedder = kit.embed, **options: Any
    ) -> EncodeReport:
        with open_slide(source, mpp=0.5) as slide:
            return encode_slide(slide, dst, fake_bundle, embed, **options)

    return call


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `store` keeps the one that it copies."""
    return tmp_path_factory.mktemp("template") / "slide.zarr"


@pytest.fixture
def store(encode: Encode, tmp_path: Path, template: Path) -> Path:
    """A store of preset standard with a region of interest; a test may damage it."""
    if not template.exists():
        encode(kit.tissue_picture(700, 900), template, roi=[(10, 300, 200, 400)])
    return Path(shutil.copytree(template, tmp_path / "slide.zarr"))
