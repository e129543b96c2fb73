#!/usr/bin/env bash
# Tells Spark which GPUs an executor or a worker has: {"name": "gpu", "addresses": ["0", "1"]}.
# The addresses are CUDA's numbers where CUDA_DEVICE_ORDER=PCI_BUS_ID, as infra/spark-gpu.conf sets it.
set -euo pipefail
numbers=$(nvidia-smi --query-gpu=index --format=csv,noheader)
[ -n "$numbers" ] || { echo "nvidia-smi lists no GPU" >&2; exit 1; }
printf '{"name": "gpu", "addresses": [%s]}\n' "$(sed 's/.*/"&"/' <<< "$numbers" | paste -sd, -)"
