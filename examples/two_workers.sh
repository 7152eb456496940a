#!/usr/bin/env bash
# Trains with two workers on this machine, each a process, as two machines would:
#
#   examples/two_workers.sh --config my.yaml --mode train_and_eval --model_dir runs/two
#
# All arguments go to trainers/video.py. With two GPUs or more, each worker has its own.
# PYTHON names the interpreter. The exit code is the highest of both.
set -u
python=${PYTHON:-python3}
video=$(cd "$(dirname "$0")/.." && pwd)/trainers/video.py
addresses=$("$python" -c '
import json, socket
servers = [socket.create_server(("localhost", 0)) for _ in range(2)]
print(json.dumps([f"localhost:{server.getsockname()[1]}" for server in servers]))')
num_gpus=$(nvidia-smi -L 2>/dev/null | wc -l)

workers=()
trap 'kill -TERM "${workers[@]}" 2>/dev/null' TERM INT
for index in 0 1; do
    TF_CONFIG="{\"cluster\": {\"worker\": $addresses},
                \"task\": {\"type\": \"worker\", \"index\": $index}}" \
    CUDA_VISIBLE_DEVICES=$( ((num_gpus < 2)) || echo $index) \
        "$python" "$video" "$@" \
        --params_override=runtime.distribution_strategy=multi_worker_mirrored &
    workers+=($!)
done

code=0
for worker in "${workers[@]}"; do
    while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
    wait "$worker"
    ended=$?
    code=$((ended > code ? ended : code))
done
exit $code
