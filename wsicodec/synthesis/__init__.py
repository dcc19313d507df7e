"""Slides that never were: grids of embeddings drawn by the embedding diffusion model."""
