"""Noise, schedules, the sampler, and the windows that tissue is drawn in."""
