"""The random state of torch, of which a process has one for all its threads."""

import threading

STATE = threading.Lock()
"""Held by whoever seeds it, and by whoever seeds it and draws until all is drawn."""
