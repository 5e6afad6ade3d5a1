"""What the robot was asked at a frame is what a policy is trained on, and asked about, there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import make_embodiment, make_episode

from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.validation.episode_page import page_of
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, write_dataset
from posa_vla.errors import BadInput
from posa_vla.evaluation.explain import explain_episode
from posa_vla.files import read_json
from posa_vla.params import PrepareParams
from posa_vla.policy.policy import ActionChunk, Observation

EMBODIMENT = make_embodiment()
PROMPTS = ("reach", "reach", "reach", "grasp", "grasp", "lift")


def episodes() -> list[Episode]:
    """One that was asked one thing, and one that was asked three."""
    rng = np.random.default_rng(0)
    plain, other = (make_episode(rng, frames=6, size=16, instruction="pick up the cube") for _ in range(2))
    return [plain, replace(other, prompts=PROMPTS)]


def test_a_sample_is_asked_what_its_frame_was(tmp_path):
    pack_episodes(episodes(), EMBODIMENT, PrepareParams(validation_fraction=0, image_size=16), tmp_path / "packed")
    data = PackedDataset(tmp_path / "packed", "train", 4)
    told = [data.captions[number] for number in data.sample(torch.arange(12)).caption.tolist()]
    assert told == ["pick up the cube"] * 6 + list(PROMPTS)
    assert data.captions == ["pick up the cube", "reach", "grasp", "lift"]


def test_a_policy_is_asked_about_a_frame_in_the_frames_words():
    heard: list[str] = []

    class Listening:
        digest, horizon, flow_steps = "0" * 64, 4, None

        def act(self, batch: list[Observation], **_: object) -> ActionChunk:
            heard.extend(observation.instruction for observation in batch)
            maps = {role: np.zeros((len(batch), 2, 4, 4), np.float32) for role in ("head", "wrist")}
            return ActionChunk(np.zeros((len(batch), 4, 2), np.float32), "base", maps, maps)

    _, several = episodes()
    rollout = explain_episode(Listening(), several, ["head", "wrist"], 16)  # type: ignore[arg-type]  # no more of a policy is asked
    assert tuple(heard) == rollout.prompts == PROMPTS


def test_words_of_frames_are_stored_and_a_version_says_so(tmp_path):
    plain, several = episodes()
    digest = write_dataset(tmp_path / "several", [plain, several], EMBODIMENT)
    reader = DatasetReader(tmp_path / "several")
    back = [reader.episode(record) for record in reader.records]
    assert [(e.instruction, e.prompts) for e in back] == [("pick up the cube", None), ("pick up the cube", PROMPTS)]
    assert [episode_digest(e) for e in back] == [record.extra.digest for record in reader.records]
    assert digest == reader.digest
    # What has no such words is written as it always was.
    write_dataset(tmp_path / "plain", [plain], EMBODIMENT)
    versions = [read_json(tmp_path / name / "meta/posa.json")["schema_version"] for name in ("plain", "several")]
    assert versions == [1, 2]
    assert "instruction" not in read_json(tmp_path / "plain/meta/posa.json")["episodes"][0]


def test_a_frames_task_that_the_list_lost_is_bad_input(tmp_path):
    write_dataset(tmp_path / "several", episodes(), EMBODIMENT)
    write_dataset(tmp_path / "plain", episodes()[:1], EMBODIMENT)
    (tmp_path / "plain/meta/tasks.parquet").rename(tmp_path / "several/meta/tasks.parquet")
    reader = DatasetReader(tmp_path / "several")
    with pytest.raises(BadInput, match=r"meta/tasks.parquet has no task 1"):
        reader.episode(reader.records[1])


def test_an_episode_that_was_asked_one_thing_keeps_its_digest():
    cameras = {"head": CameraTrack(np.zeros((3, 4, 4, 3), np.uint8))}
    state, action = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    episode = Episode("arm", "pick up the cube", "teleop", True, 10.0, cameras, state, action)
    # Stores and data versions name it so.
    named = "f6c703d4498aaa7ff7d7397ed06c3e20b52fa68c5d344932c8cbb1506cf5ecf2"  # pragma: allowlist secret
    assert episode_digest(episode) == named
    other = replace(episode, prompts=("pick up the cube", "put it down", "put it down"))
    assert episode_digest(other) != named
    with pytest.raises(BadInput, match="prompts are 2 texts, expected one for each of 3 frames"):
        replace(episode, prompts=("a", "b")).check()


def test_the_page_of_an_episode_shows_what_was_asked_when():
    plain, several = episodes()
    assert "from frame 3: grasp, from frame 5: lift" in page_of(several, EMBODIMENT, "title")
    assert "from frame" not in page_of(plain, EMBODIMENT, "title")
