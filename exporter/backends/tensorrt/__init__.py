"""trt: NVIDIA TensorRT 10.3 to 11.x."""
