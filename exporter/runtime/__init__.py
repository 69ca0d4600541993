"""One file that a production team can trust and run: what it holds, how it is read, checked, signed and unpacked.

These modules travel inside every package and run there without torch, msgspec or zoo: container, wire, predictor,
verify, tegrastats, telemetry, timing, entry. They import the standard library, numpy and Pillow, and ONNX Runtime when
it is used.
"""
