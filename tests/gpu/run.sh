#!/usr/bin/env bash
# What nobody without a GPU can run: the tests marked gpu, an engine of each family, and a report of it all.
#   bash tests/gpu/run.sh [REPORT]        on a machine with an NVIDIA GPU, TensorRT 10.3 to 11.x, after `make setup`
# It writes REPORT (gpu-report.txt) and ends with 0 only when every part did.
set -uo pipefail
cd "$(dirname "$0")/../.."
report=${1:-gpu-report.txt}
bin=${BIN:-.venv/bin}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0

part() {  # part TITLE COMMAND...
  printf '\n=== %s\n$ %s\n' "$1" "${*:2}"
  "${@:2}" 2>&1 || { printf '>>> ended with %s\n' "$?"; failed=$((failed + 1)); }
}

{
  printf 'zoo on a GPU, %s, commit %s\n' "$(date -u +%FT%TZ)" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
  part 'driver and GPU' nvidia-smi
  part 'what zoo sees' "$bin/zoo" doctor
  part 'tests marked gpu' env OMP_NUM_THREADS=4 "$bin/pytest" -m gpu -q
  for model in alexnet vgg11 googlenet resnet18 mobilenet_v2 mobilenet_v3_small efficientnet_b0; do
    for precision in fp32 fp16 bf16; do
      flag=(); [ "$precision" = fp32 ] || flag=("--$precision")
      part "$model $precision: build, receipt, golden images" \
        "$bin/zoo" export "$model" --to trt "${flag[@]}" --weights random --batch 1:8:32 --out "$out/exports" --json
      part "$model $precision: latency" "$bin/python" tests/gpu/latency.py "$out/exports/$model/trt-$precision"
    done
  done
  part 'gates on the engines' "$bin/zoo" check "$out"/exports/*/trt-* --device cuda
  printf '\n%s parts failed\n' "$failed"
  exit "$((failed > 0))"
} 2>&1 | tee "$report"
exit "${PIPESTATUS[0]}"
