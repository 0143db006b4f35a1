"""Out of the laboratory, in three rooms that know each other one way round.

`export` writes a detector as one ONNX file, and is the only one that needs torch; `runtime` scores
with such a file; `service` does so by HTTP, and knows the runtime, never the export.
"""
