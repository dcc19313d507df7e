"""What is known of the terms of published weights; bundles repeat it, and none is shipped."""

NOTES = {
    "hipt-vit256": (
        "HIPT (Chen et al. 2022): Apache 2.0 with Commons Clause: not to be sold, nor services "
        "whose value derives from it. Your own copy; do not redistribute it with anything you sell."
    ),
    "zoomldm": (
        "ZoomLDM (Yellapragada, Graikos et al. 2025): the code is MIT. Weights conditioned on UNI "
        "fall under UNI's terms (CC BY-NC-ND 4.0 and gated access), which name models trained on "
        "UNI's outputs: not for commercial use, not to be redistributed. Check yours."
    ),
    "uni": (
        "UNI (Chen et al. 2024): CC BY-NC-ND 4.0, gated access; not for commercial use, not to be "
        "redistributed, and the terms reach models trained on its outputs. Check yours."
    ),
    "large-image-diffusion": (
        "Large-Image-Diffusion (Graikos et al. 2024): its repository states no licence, nor do its "
        "weights; conditioned on HIPT (Apache 2.0 with Commons Clause). Ask its authors."
    ),
    "cin256-v2": (
        "CompVis latent diffusion: the code is MIT; no separate statement on the weights, which "
        "were trained on ImageNet. A start for training, not a histology model."
    ),
    "vq-f4": (
        "CompVis latent diffusion: the code is MIT; no separate statement on the weights. A start "
        "for training, not a histology model."
    ),
}

# SHA-256 of files whose digest their publishers state.
KNOWN = {
    "6960cd5a8657dc8bb214671aa0c6dbd3f5b698e84386884955836487ddc89e24": (
        "HIPT_4K/Checkpoints/vit256_small_dino.pth of the HIPT repository"
    ),
}
