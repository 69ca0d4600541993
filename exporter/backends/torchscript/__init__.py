"""torchscript: traced and frozen modules, in float and with torch's quantised kernels."""
