"""Games between policies: preference tables."""
