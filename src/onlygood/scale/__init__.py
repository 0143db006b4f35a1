"""Pictures of any number: units of work on the cores of a machine, on Ray, or as part I of N.

```python
from onlygood.scale import Local, score, tables

if __name__ == "__main__":
    ended = score("nut.onnx", "line/2026-11", "scores", on=Local(8))
    print(ended.summary["counts"])
    for table in tables("scores"):
        ...
```
"""

from onlygood.scale.job import Ended, Part, score
from onlygood.scale.local import Local
from onlygood.scale.on_ray import Ray
from onlygood.scale.results import tables

__all__ = ["Ended", "Local", "Part", "Ray", "score", "tables"]
