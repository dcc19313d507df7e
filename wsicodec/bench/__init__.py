"""Rate against Fréchet distance, ours and rivals' on the same fields; sits above the API."""
