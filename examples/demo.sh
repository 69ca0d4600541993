#!/bin/sh
# The main job on data that is always there: train, export, prove. `make demo` runs it; then try other names.
set -u

mkdir -p "${DEMO_FOLDER:=build/demo}" && cd "$DEMO_FOLDER" || exit 2
echo "working in $(pwd)"

step() {
  echo
  echo "\$ zoo $*"
  zoo "$@"
}

step train resnet18 --data digits --out runs/demo --overwrite || exit $?

# trt is asked for too: where TensorRT is missing its row says so, and the command ends with 3.
step export runs/demo --to torchscript,onnx,trt --data digits
case $? in 0 | 3) ;; *) exit 1 ;; esac

step check exports/resnet18/torchscript-fp32 exports/resnet18/onnx-fp32 exports/resnet18/trt-fp32 --data digits
code=$?
case $code in
  0) echo "every gate passed on every backend" ;;
  3) echo "every gate that this machine can judge passed; what it lacks is in its row" ;;
  *) exit $code ;;
esac
