"""Networks of a few channels, as configurations write them."""

VIT = {
    "width": 24, "depth": 1, "heads": 2, "patch": 16, "train_size": 256, "statistics": 14,
}  # fmt: skip
WIDTH = 24 + 14  # of its vectors
SUMMARIZER = {"embedding_width": WIDTH, "width": 8, "blocks": 1}
UNET = {
    "latent_channels": 4, "widths": [8, 12, 16], "down_blocks": [1, 1, 1],
    "up_blocks": [1, 1, 1], "embedding": 16, "cond": 8,
}  # fmt: skip
AUTOENCODER = {
    "latent_channels": 4, "widths": [8, 8, 8], "encoder_blocks": [1, 1, 1],
    "decoder_blocks": [1, 1, 1],
}  # fmt: skip
RENDERER = {"latent_channels": 4, "widths": [8, 8, 8], "blocks": [1, 1, 1]}
