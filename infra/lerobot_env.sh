#!/usr/bin/env bash
# An environment of its own with the real lerobot package, for the tests marked `lerobot` and benchmarks/loader.py.
#   infra/lerobot_env.sh DIR
# lerobot 0.4 pins torch below 2.11 and imports torchvision, whose wheels want CUDA: both go in without what they ask
# for, and whoever imports them names torchvision's two operators first (tests/dataset/exchange/open_with_lerobot.py).
set -euo pipefail
folder=${1:?usage: infra/lerobot_env.sh DIR}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --upgrade pip
"$folder/bin/pip" install --quiet torch==2.13.0
"$folder/bin/pip" install --quiet --no-deps lerobot==0.4.4 torchvision==0.28.0
"$folder/bin/pip" install --quiet "datasets<5" draccus==0.10.0 einops opencv-python-headless "av<16" jsonlines \
  "huggingface-hub<0.36" safetensors gymnasium packaging termcolor deepdiff imageio accelerate diffusers grpcio \
  protobuf pyserial pynput wandb rerun-sdk
echo "$folder/bin/python"
