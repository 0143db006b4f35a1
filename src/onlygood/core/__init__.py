"""The vocabulary every other room speaks; imports nothing of the package but itself."""
