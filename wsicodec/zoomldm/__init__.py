"""Drawing patches with the published networks, the published way."""
