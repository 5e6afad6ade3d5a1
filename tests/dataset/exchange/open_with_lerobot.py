"""Run by an interpreter that has lerobot (infra/lerobot_env.sh): opens an export with it, and prints what it sees.

python open_with_lerobot.py FOLDER
"""

import json
import sys

import torch

# torchvision's wheels bring operators for CUDA builds of torch only; it imports once these two are named.
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402  # after the operators

data = LeRobotDataset("local/export", root=sys.argv[1])
items = [data[index] for index in range(len(data))]
seen = {
    "episodes": data.num_episodes,
    "frames": len(data),
    "fps": data.fps,
    "state": [item["observation.state"].tolist() for item in items],
    "action": [item["action"].tolist() for item in items],
    "pictures": [(item["observation.images.head"] * 255).round().to(torch.uint8).sum().item() for item in items],
    "tasks": [item["task"] for item in items],
    "episode": [int(item["episode_index"]) for item in items],
}
sys.stdout.write(json.dumps(seen) + "\n")
