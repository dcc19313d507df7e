"""Drawing with the published networks, the published way.

What their papers and code leave open is settled as follows.

* A tile of a store is one patch of 256 px, drawn by itself: what the networks were trained on.
  Neighbours share the noise field and the parent, nothing else, so tile borders can be seen;
  `mosaic` is the published remedy, for large images and not for stores, where a pixel must not
  depend on its neighbours' drawing.
* A child starts at index 500 of the 1000 trained steps, with the noise of exactly that step, from
  its quarter of the parent, enlarged in pixels by cubic convolution and encoded: 26 evaluations at
  the published stride of 20. No noise is added on the way (DDIM, eta 0).
* Guidance is a scale or a weight by name, never a bare number.
* Embeddings are pooled to 8 x 8 and then standardised, in float32, in that order; the CNN
  summarizer sees all of them. Cells without tissue hold the embedding of white glass, or zeros,
  which stay zeros, where no embedder was at hand to tell it.
* Ancestral steps of large images take sqrt(1 - ab_s - variance) of the estimated noise.
* Pixels are truncated to bytes, as published, not rounded.
"""
