"""What every policy must keep: the promises of `posa_vla.policy.policy.Policy`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.policy.policy import ActionChunk, Observation, Policy

# How far a committed action may come back from what was given, as a share of its channel's range: units are converted.
_PREFIX = 1e-3


class PolicyContract:
    """Tests of one policy; a subclass whose name begins with `Test` gives the three fixtures.

    Attributes:
        looks_at: What of an observation the policy uses: `images`, `state`, `instruction`. Of that, what does not fit
            must be refused.
    """

    looks_at: ClassVar[frozenset[str]] = frozenset({"images", "state", "instruction"})

    @pytest.fixture
    def policy(self) -> Policy:
        """The policy, ready to act."""
        raise NotImplementedError("give the policy: override the fixture `policy` in the subclass")

    @pytest.fixture
    def embodiment(self) -> Embodiment:
        """The robot that the policy acts for."""
        raise NotImplementedError("give the policy's robot: override the fixture `embodiment` in the subclass")

    @pytest.fixture
    def observation(self) -> Observation:
        """An observation that fits the policy, of the cameras that it needs and no other."""
        raise NotImplementedError("give what the policy sees: override the fixture `observation` in the subclass")

    def require_chunk(self, chunk: ActionChunk, policy: Policy, embodiment: Embodiment, batch: int) -> None:
        """Fails where a chunk is not what the contract says."""
        assert chunk.actions.dtype == np.float32
        assert chunk.actions.shape == (batch, policy.horizon, len(embodiment.action))
        assert np.isfinite(chunk.actions).all()
        assert chunk.frame == embodiment.action_frame
        low, high = embodiment.action_limits()
        assert (chunk.actions >= low).all(), "physical units: below the embodiment's limits"
        assert (chunk.actions <= high).all(), "physical units: above the embodiment's limits"

    def test_it_is_known_by_a_digest_and_a_horizon(self, policy: Policy) -> None:
        """What is judged, released and installed is named by the digest."""
        assert re.fullmatch(r"[0-9a-f]{64}", policy.digest), f"expected a hex SHA-256, got {policy.digest!r}"
        assert isinstance(policy.horizon, int)
        assert policy.horizon >= 1

    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_chunk_has_the_declared_shape_and_keeps_the_limits(
        self, policy: Policy, embodiment: Embodiment, observation: Observation, batch: int
    ) -> None:
        """The actions are float32 (B, H, A), in the units and the frame of the embodiment."""
        self.require_chunk(policy.act([observation] * batch), policy, embodiment, batch)

    def test_the_same_batch_and_seed_give_the_same_actions(self, policy: Policy, observation: Observation) -> None:
        """What the policy was asked in between does not change its answer."""
        first = policy.act([observation], seed=5).actions
        policy.act([observation, observation], seed=6)
        np.testing.assert_array_equal(first, policy.act([observation], seed=5).actions)

    def test_each_row_of_a_batch_may_have_a_seed_of_its_own(
        self, policy: Policy, embodiment: Embodiment, observation: Observation
    ) -> None:
        """An evaluation asks for several scenes at once, and each scene's answer is the one that it has alone."""
        together = policy.act([observation, observation], seed=[5, 6]).actions
        low, high = embodiment.action_limits()
        for row, seed in enumerate((5, 6)):
            alone = policy.act([observation], seed=seed).actions[0]
            assert (np.abs(together[row] - alone) <= 1e-3 * (high - low)).all(), f"row {row}, seed {seed}"

    def test_another_way_of_sampling_leaves_the_policy_as_it_is(
        self, policy: Policy, embodiment: Embodiment, observation: Observation
    ) -> None:
        """A release says the flow steps and the noise; the same weights act, and keep their name and their promises."""
        before = policy.act([observation], seed=5).actions
        steps = policy.flow_steps
        assert steps is None or steps >= 1
        other = policy.with_flow(None if steps is None else steps + 1, 0.0)
        assert (other.digest, other.horizon, other.flow_steps) == (policy.digest, policy.horizon, steps)
        self.require_chunk(other.act([observation], seed=5), other, embodiment, 1)
        np.testing.assert_array_equal(before, policy.act([observation], seed=5).actions)
        named, unnamed = (policy.with_flow(count, 1.0).act([observation], seed=5) for count in (steps, None))
        np.testing.assert_array_equal(named.actions, unnamed.actions, "None stands for its own flow steps")

    def test_what_it_sees_is_not_changed(self, policy: Policy, observation: Observation) -> None:
        """The same reading may be given to the policy again: it must not be written to."""
        images = {role: image.copy() for role, image in observation.images.items()}
        state = observation.state.copy()
        policy.act([observation])
        np.testing.assert_array_equal(state, observation.state)
        for role, image in images.items():
            np.testing.assert_array_equal(image, observation.images[role])

    def test_actions_that_are_being_executed_are_the_chunk_s_beginning(
        self, policy: Policy, embodiment: Embodiment, observation: Observation
    ) -> None:
        """The policy gives the committed actions back, and continues from them."""
        length = (policy.horizon - 1) // 2
        if not length:
            return  # a chunk of such a policy has no room for any
        earlier = policy.act([observation, observation], seed=1).actions
        committed = earlier[:, length : 2 * length].copy()
        kept = committed.copy()
        chunk = policy.act([observation, observation], committed=committed, seed=2)
        self.require_chunk(chunk, policy, embodiment, 2)
        np.testing.assert_array_equal(committed, kept)
        low, high = embodiment.action_limits()
        off = np.abs(chunk.actions[:, :length] - committed) / np.maximum(high - low, 1e-9)
        assert off.max() <= _PREFIX, "the chunk does not begin with the committed actions"

    def test_attention_is_given_where_there_is_one(self, policy: Policy, observation: Observation) -> None:
        """The maps are of cameras that the policy saw, in [0, 1]; asking for them changes no action."""
        plain = policy.act([observation, observation], seed=3)
        asked = policy.act([observation, observation], seed=3, attention=True)
        np.testing.assert_array_equal(plain.actions, asked.actions)
        assert plain.attention is None
        for role, maps in (asked.attention or {}).items():
            assert role in observation.images
            assert maps.dtype == np.float32
            assert maps.ndim == 4
            assert len(maps) == 2
            assert 0 <= maps.min() <= maps.max() <= 1

    @pytest.mark.parametrize(
        ("part", "fault"),
        [
            ("images", "a camera is missing"),
            ("images", "an image of floats"),
            ("state", "a value too many"),
            ("state", "not a number"),
            ("instruction", "no text"),
        ],
    )
    def test_an_observation_that_does_not_fit_is_refused_by_name(
        self, policy: Policy, observation: Observation, part: str, fault: str
    ) -> None:
        """The message names the camera, or the part of the observation."""
        if part not in self.looks_at:
            return
        changed: Any = None
        name = part
        if part == "images":
            name = sorted(observation.images)[0]
            changed = dict(observation.images)
            image = changed.pop(name)
            if fault == "an image of floats":
                changed[name] = image.astype(np.float32)
        elif part == "state":
            changed = np.append(observation.state, np.float32(0))
            if fault == "not a number":
                changed = np.full_like(observation.state, np.nan)
        with pytest.raises(BadInput, match=re.escape(name)):
            policy.act([replace(observation, **{part: changed})])
