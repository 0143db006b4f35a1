"""Out of the laboratory: one ONNX file, and what runs it where there is no torch."""
