"""A bundle as it would be with another run's denoiser: the flow before it was distilled, say.

    python -m benchmarks.decoder_before RUN FOLDER [--bundle NAME_OR_FOLDER]

writes FOLDER, a bundle to give `python -m benchmarks.decoder` beside the shipped one. Renderer,
autoencoder and embedder stay those of the shipped bundle: a flow's run has no renderer of its own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsicodec.errors import ConfigError
from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.train import export
from wsicodec.train.bundle import load_zoomldm


def with_denoiser(bundle: Bundle, run: Path, folder: Path) -> Path:
    """Write a copy of a bundle that holds the averaged denoiser of a run; returns the folder.

    Raises ConfigError if the two have other sizes, BundleError if the bundle's graph does not
    compute what the run's denoiser does.
    """
    model, facts = load_zoomldm(run)
    sizes = model.config.to_json()
    if sizes != bundle.config["zoomldm"]:
        raise ConfigError(
            f"expected a denoiser of the sizes {bundle.config['zoomldm']}, as {bundle.name} has, "
            f"got {sizes} in {run}; export a bundle of that run instead"
        )
    export.round_weights(model)
    feeds = export.denoiser_feeds(bundle.latent_channels, bundle.embedding_width)
    export.check_graph(bundle.read("denoiser.onnx"), model, feeds, model.state_dict())
    parts = {name: bundle.read(name) for name in bundle.config["files"]}
    told = {
        "name": f"{bundle.name}, denoiser of {run.name}",
        "record": {"remarks": f"A denoiser of {facts['seen']} patches under other parts."},
    }
    settings = {k: v for k, v in bundle.config.items() if k != "files"} | told
    export.write_bundle(folder, settings, parts | export.weights_part(model, "zoomldm"))
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.decoder_before", description=__doc__.split("\n")[0]
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", help="name or folder (default: the shipped one)")
    given = parser.parse_args(arguments)
    print(with_denoiser(load_bundle(given.bundle), given.run, given.folder))


if __name__ == "__main__":
    main()
