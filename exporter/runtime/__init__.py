"""What travels in a package: how it is opened, proved safe, run, verified and profiled.

These modules, and those of `code.RUNTIME` in other rooms, run there without torch, msgspec or zoo. They import the
standard library, numpy and Pillow, and ONNX Runtime (or torch, for TorchScript) when it is used.
"""
