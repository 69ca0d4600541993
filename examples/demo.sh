#!/bin/sh
# From data to packages on what is always there: `make demo` runs it. Then change examples/pipeline.toml.
set -eu
cd "$(dirname "$0")"

zoo run pipeline.toml --dry-run
zoo run pipeline.toml
zoo run pipeline.toml --json >/dev/null   # again: what is done stays done, so this takes a second
python ../build/pipeline/packages/resnet18-half.zoo verify
echo "trained, pruned, exported in fp32 and int8, checked and packaged; examples/all-backends.toml does it for every backend"
