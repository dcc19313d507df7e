"""The networks, their bundles, and the runtimes that run them."""
