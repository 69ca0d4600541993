"""A backend for zoo that runs in numpy, by the reference evaluator of the package onnx."""
