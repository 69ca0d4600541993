"""What several backends share of ONNX graphs: tracing, layers, types, pixels, and where Q/DQ goes."""
