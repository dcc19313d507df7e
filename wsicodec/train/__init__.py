"""Training: every network of a bundle, from slides, by `python -m wsicodec.train STAGE`."""
