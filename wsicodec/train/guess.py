"""The denoiser's linear start: latents from the parent's pixels by least squares."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsicodec.models.zoomldm import PARENT, ZoomLDM
from wsicodec.train.loop import Sample

RIDGE = 1e-3  # of the mean square of the regressors


@torch.no_grad()
def fit_guess(model: ZoomLDM, samples: Sequence[Sample]) -> None:
    """Set the guess and the deviations of `model` from samples with and without a parent."""
    given = [s for s in samples if s["has_parent"] > 0]
    regressors = torch.cat([_neighbourhoods(s) for s in given])
    latents = torch.cat([_inner(s) for s in given])
    gram = regressors.T @ regressors
    gram += torch.eye(len(gram)) * RIDGE * gram.diagonal().mean()
    solution = torch.linalg.solve(gram, regressors.T @ latents)
    channels, parents = model.guess.weight.shape[:2]
    model.guess.weight.copy_(solution[:-1].T.reshape(channels, parents, 3, 3))
    assert model.guess.bias is not None
    model.guess.bias.copy_(solution[-1])
    model.deviation[1] = (latents - regressors @ solution).std(0)
    model.deviation[0] = torch.cat([_inner(s) for s in samples]).std(0)


def _neighbourhoods(sample: Sample) -> Tensor:
    parent = F.pixel_unshuffle(torch.from_numpy(sample["parent"])[None], PARENT)
    columns = F.unfold(parent, 3)[0].T  # interior cells only: padding is not tissue
    return torch.cat([columns, torch.ones(len(columns), 1)], 1).double()


def _inner(sample: Sample) -> Tensor:
    latent = torch.from_numpy(np.asarray(sample["latent"]))[:, 1:-1, 1:-1]
    return latent.flatten(1).T.double()
