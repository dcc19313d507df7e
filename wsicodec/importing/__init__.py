"""Checkpoints that people have, into bundles: read without running them, told apart, checked."""
