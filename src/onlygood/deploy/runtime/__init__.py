"""Scoring with an exported detector: numpy, Pillow and ONNX Runtime, no torch.

```python
from onlygood.deploy.runtime import Runtime

runtime = Runtime.load("nut.onnx")
for result in runtime.score("line/2026-11-21"):
    print(result.name, result.score, result.decision)
```
"""

from onlygood.deploy.runtime.runtime import BATCH, Raw, Runtime

__all__ = ["BATCH", "Raw", "Runtime"]
