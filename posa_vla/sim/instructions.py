"""In which words a scene's task is asked: those of the demonstrations, or others of the same meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posa_vla.errors import BadInput
from posa_vla.params import Wording

# Names of colours and shapes stay in all of them: a policy that was trained on these scenes alone has no way to know
# that a sphere is a ball. `{other}` is another object on the table, which must not be picked.
_WORDINGS: dict[Wording, tuple[str, ...]] = {
    "trained": ("pick up the {target}",),
    "paraphrased": (
        "grab the {target}",
        "lift up that {target}",
        "take the {target} off the table",
        "get hold of the {target}",
        "raise the {target} into the air",
        "go and fetch that {target}",
    ),
    "distracted": (
        "please pick up the {target} now",
        "hello robot, would you pick up the {target} for me",
        "when you are ready, pick up the {target}, and be careful",
        "well, let me think, pick up the {target} today, thank you",
        "it is late and I am hungry, so pick up the {target} quickly",
    ),
    # The target stands first as often as last, so that neither place gives it away.
    "contrasted": (
        "pick up the {target}, not the {other}",
        "pick up the {target} and leave the {other} alone",
        "not the {other} but the {target}",
        "leave the {other} alone and pick up the {target}",
    ),
}
# What stands for the first sentence where the object has to be put somewhere.
_INTO_THE_BOWL = "put the {target} into the bowl"
# Apart from the streams that the same seed has for objects, noise and light.
_STREAM = 4


def instruction(task: str, wording: Wording, seed: int, target: str, others: Sequence[str]) -> str:
    """The task of a scene in words that its seed picks.

    Args:
        task: Of the scene.
        wording: See `EvaluateParams.wording`.
        seed: Seed of the scene.
        target: Colour and shape of the object that is meant.
        others: Those of the other objects on the table; not empty where `wording` is `contrasted`.

    Raises:
        BadInput: The task has no such wording.
    """
    rng = np.random.default_rng([_STREAM, seed])
    if task == "pick_place":
        if wording != "trained":
            raise BadInput(f"task pick_place has no wording {wording!r}, expected 'trained'")
        return _INTO_THE_BOWL.format(target=target)
    sentences = _WORDINGS[wording]
    sentence = sentences[int(rng.integers(len(sentences)))]
    other = others[int(rng.integers(len(others)))] if others else ""
    return sentence.format(target=target, other=other)
