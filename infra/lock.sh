#!/usr/bin/env bash
# Rewrites requirements.lock from pyproject.toml; pass --upgrade for a deliberate upgrade.
# No hashes (a local CPU wheel of torch may stand in for the index's) and no CUDA packages (torch's own
# metadata brings them where its CUDA build is chosen).
set -euo pipefail
cd "$(dirname "$0")/.."
cuda=$(printf -- '--no-emit-package %s ' \
  triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime,cudnn-cu13} \
  nvidia-{cufft,cufile,curand,cusolver,cusparse,cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx})
# shellcheck disable=SC2086  # a list of flags
"${UV:-.venv/bin/uv}" pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
  --no-annotate --custom-compile-command "make lock" $cuda "$@" --output-file requirements.lock --quiet
