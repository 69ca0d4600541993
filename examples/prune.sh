#!/bin/sh
# Smaller in three steps on Fashion-MNIST: half the multiply-accumulates, then int8, each with its evidence.
set -eu

mkdir -p "${PRUNE_FOLDER:=build/prune}" && cd "$PRUNE_FOLDER"
echo "working in $(pwd)"
: "${EPOCHS:=3}"

step() {
  echo
  echo "\$ zoo $*"
  zoo "$@"
}

[ -f runs/whole/run.json ] || step train resnet18 --data fashion-mnist --stem paper --epochs "$EPOCHS" --out runs/whole
step prune runs/whole --will-it-pay
step prune runs/whole --data fashion-mnist --macs 0.5 --epochs "$EPOCHS" --out runs/half --overwrite
step export runs/half --to torchscript,onnx --int8 --data fashion-mnist
step check exports/resnet18-pruned/torchscript-int8 exports/resnet18-pruned/onnx-int8 --data fashion-mnist
