"""How good scores are, measured on labelled pictures; never a source of thresholds."""
