#!/usr/bin/env bash
# TensorFlow Serving in Docker: gRPC on port 8500, REST on 8501.
#
#   ./serve.sh        on the CPU
#   ./serve.sh gpu    on the GPUs, with the NVIDIA Container Toolkit
#
# TF_SERVING_IMAGE names another image. Its server must have the TensorFlow of the export (see model.json) or a newer one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case "${1:-cpu}" in
  cpu)
    image=tensorflow/serving:latest
    options=()
    ;;
  gpu)
    image=tensorflow/serving:latest-gpu
    # float32 as on processors, not TensorFloat-32, which rounds to ten bits.
    options=(--gpus all -e NVIDIA_TF32_OVERRIDE=0)
    ;;
  *)
    echo "serve.sh: expected cpu or gpu. Received: $1" >&2
    exit 2
    ;;
esac
flags=(
  @FLAG@
)
exec docker run --rm --name @NAME@ -p 8500:8500 -p 8501:8501 -e MODEL_NAME=@NAME@ \
  --mount "type=bind,source=$here,target=/models/@NAME@,readonly" \
  ${options[@]+"${options[@]}"} "${TF_SERVING_IMAGE:-$image}" "${flags[@]}"
