"""onnx: typed ONNX graphs, run by ONNX Runtime."""
