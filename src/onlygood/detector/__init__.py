"""The façade `Detector`, and what it is made of: how it learns, scores and lies on disk."""

from onlygood.detector.detector import Detector

__all__ = ["Detector"]
