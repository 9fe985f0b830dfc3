#!/usr/bin/env bash
# TensorFlow Serving in Docker: gRPC on port 8500, REST on 8501.
#
#   ./serve.sh        on the CPU
#   ./serve.sh gpu    on the GPUs, with the NVIDIA Container Toolkit
#
# TF_SERVING_IMAGE names another image. Its server should have the TensorFlow of the export (see model.json) or a newer one;
# 2.18 and 2.20 were seen to load exports of 2.21 and to give equal numbers.
set -euo pipefail
source=source=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# The mount is a line of CSV.
if [[ $source == *[\",]* ]]; then
  source=\"${source//\"/\"\"}\"
fi

case "${1:-cpu}" in
  cpu)
    image=tensorflow/serving:@SERVING@
    options=()
    ;;
  gpu)
    image=tensorflow/serving:@SERVING@-gpu
    # float32 as on processors, not TensorFloat-32, which rounds to ten bits.
    options=(--gpus all -e NVIDIA_TF32_OVERRIDE=0)
    ;;
  *)
    echo "serve.sh: expected cpu or gpu. Received: $1" >&2
    exit 2
    ;;
esac
# As process 1 the server would ignore signals, and the image's shell does not pass them on.
options+=(--init -e TINI_KILL_PROCESS_GROUP=1)
# On a terminal Ctrl-C goes to the server. Started with &, a program that reads the terminal would be stopped.
if [[ -t 0 && -t 1 ]]; then
  options+=(-t)
  case "$(ps -o stat= -p $$)" in *+*) options+=(-i) ;; esac
fi
flags=(
  @FLAG@
)
exec docker run --rm --name @NAME@ -p 8500:8500 -p 8501:8501 -e MODEL_NAME=@NAME@ \
  --mount "type=bind,$source,target=/models/@NAME@,readonly" \
  "${options[@]}" "${TF_SERVING_IMAGE:-$image}" "${flags[@]}"
