"""From a detector to files that run where there is no torch, and whether they say the same."""

from onlygood.deploy.export.onnx import export

__all__ = ["export"]
