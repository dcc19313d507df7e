"""Rate, distances between sets of features, and measures of pictures; sits below training."""
