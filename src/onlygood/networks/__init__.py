"""Modules that know sizes, not methods."""
