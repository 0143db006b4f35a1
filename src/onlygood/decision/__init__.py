"""Decisions with a guarantee: thresholds, p-values, three states. Needs numpy alone."""
