"""Records of offline evaluations that say what a test wants."""

from __future__ import annotations

from posa_vla.evidence.offline import AnchorError, ChannelError, EventTiming, OfflineEpisode, OfflineEvidence
from posa_vla.policy.execution import Execution


def offline_record(
    *policy: float | None, hold: float = 0.5, nearest: float = 0.4, outside: int = 0, instruction: str = "pick"
) -> OfflineEvidence:
    """One held-out episode for each error of the policy."""
    episodes = [
        OfflineEpisode(
            number=number,
            instruction=instruction,
            frames=40,
            looks=10,
            policy=error,
            hold=hold,
            nearest=nearest,
            outside=outside,
        )
        for number, error in enumerate(policy)
    ]
    errors = None if None in policy else [0.01, 0.02]
    channel = ChannelError(
        name="joint", unit="rad", held="state", scale=0.2, policy=errors, hold=[0.02, 0.04], nearest=[0.01, 0.03]
    )
    return OfflineEvidence(
        policy_digest="a" * 64,
        data="d" * 64,
        embodiment="real_arm",
        fps=10,
        horizon=2,
        image_size=64,
        execution=Execution(execute=4, flow_steps=2),
        held_out=len(policy),
        limits=["joint"],
        episodes=episodes,
        channels=[channel] if policy else [],
        anchors=[AnchorError(camera="head", anchor="task", median=3.25, ninety=9.5, looks=10)] if policy else [],
        events=[EventTiming(gripper="gripper", recorded=4, found=3, extra=1, seconds=0.15)] if policy else [],
        hardware="x86_64, 2 CPUs, Linux",
        versions={"torch": "2.9.0"},
    )
