"""A policy's trial, in a process of its own within a bound of time and a bound of memory.

What a policy takes is known only when it has taken it: its files are data, but they say its sizes. In the agent's
process one that is too large would end the robot's control. In a process of its own its allocation fails, and the agent
hears so. `check_health` starts this file as that process.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from posa_vla.errors import BadInput, PosaError
from posa_vla.files import canonical_json
from posa_vla.interpreter import own_python
from posa_vla.json_reader import LARGEST_RECORD
from posa_vla.machine import memory as memory_left
from posa_vla.policy.execution import Execution
from posa_vla.processes import dies_with_parent
from posa_vla.robot.agent.health import load_installed, tried
from posa_vla.robot.control.pictures import Sizes
from posa_vla.schema import Closed, parse_json

# Of the memory that is free, what a policy may take while it is tried: the rest keeps the robot's control alive.
_SHARE = 0.9
# How Python, PyTorch and the kernel say that there is none left.
_NO_MEMORY = re.compile("MemoryError|allocate memory|not enough memory|bad_alloc")


class Trial(Closed):
    """What is tried, on standard input.

    Attributes:
        folder: Verified bundle.
        digest: Its digest.
        embodiment_digest: Of the robot.
        sizes: (height, width) of the robot's pictures, by role.
        execution: What the release fixes; None where it fixes nothing.
        memory: Bytes that the process may take; None for no bound.
    """

    folder: str
    digest: str
    embodiment_digest: str
    sizes: dict[str, tuple[int, int]]
    execution: Execution | None
    memory: int | None


class Outcome(Closed):
    """How it ended, on standard output.

    Attributes:
        complaint: Why the policy may not run, or None.
    """

    complaint: str | None


# Folder, digest, the robot's embodiment digest, sizes, execution, seconds for all of it -> a complaint, or None.
Check = Callable[[Path, str, str, Sizes, Execution | None, float], str | None]


def check_health(
    folder: Path,
    digest: str,
    embodiment_digest: str,
    sizes: Sizes,
    execution: Execution | None,
    deadline: float,
    memory: int | None = None,
) -> str | None:
    """`tried` of an installed policy in a process of its own, within a bound of time and a bound of memory.

    Args:
        folder: Verified bundle.
        digest: Its digest.
        embodiment_digest: Of the robot.
        sizes: Of the robot's pictures.
        execution: What the release fixes.
        deadline: Seconds for all of it.
        memory: Bytes that the process may take; most of what is free on the machine if None.

    Returns:
        Why the policy may not run, or None.
    """
    bound = _most_of_what_is_free() if memory is None else memory
    request = {
        "folder": str(folder.resolve()),
        "digest": digest,
        "embodiment_digest": embodiment_digest,
        "sizes": {role: list(size) for role, size in sizes.items()},
        "execution": None if execution is None else execution.model_dump(mode="json"),
        "memory": bound,
    }
    command = [sys.executable, "-P", "-m", "posa_vla.robot.agent.trial", str(os.getpid())]
    variables, pipe = own_python(dict(os.environ)), subprocess.PIPE
    # In a session of its own: a Ctrl-C is for the agent, which ends the trial.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=variables, start_new_session=True) as process:
        try:
            answer, _ = process.communicate(canonical_json(request), timeout=deadline)
        except subprocess.TimeoutExpired:
            return f"it did not report healthy within {deadline:.0f} s"
        finally:
            process.kill()
    words = "" if bound is None else f" (it may take {bound / 1e6:.0f} MB of memory)"
    try:
        complaint = parse_json(Outcome, answer, "the trial's answer", limit=LARGEST_RECORD).complaint
    except BadInput:
        return f"its process ended without an answer, exit status {process.returncode}{words}"
    return complaint if complaint is None or not _NO_MEMORY.search(complaint) else f"{complaint}{words}"


def _most_of_what_is_free() -> int | None:
    try:
        return int(_SHARE * memory_left())
    except OSError:  # not Linux, which has no such bound either
        return None


def _bound(memory: int) -> None:
    """The kernel refuses this process what goes beyond; should memory end all the same, it ends this process first.

    What is counted are private pages that may be written (RLIMIT_DATA). Address space (RLIMIT_AS) would count mapped
    weights and libraries, which cost nothing, and resident pages (RLIMIT_RSS) Linux does not bound.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")


def main() -> None:
    """Tries the policy that standard input names, and says on standard output how that ended."""
    dies_with_parent(signal.SIGKILL)()
    if os.getppid() != int(sys.argv[1]):  # the agent was killed before the kernel was asked
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what a library prints is no answer
        try:
            trial = parse_json(Trial, sys.stdin.buffer.read(), "the trial", limit=LARGEST_RECORD)
            if trial.memory is not None:
                _bound(trial.memory)
            where = (Path(trial.folder), trial.digest, trial.embodiment_digest)
            complaint = tried(load_installed, *where, trial.sizes, trial.execution)
        except MemoryError:
            complaint = "MemoryError"
        except (PosaError, ImportError, OSError) as error:
            complaint = str(error)
        answer.write(canonical_json(Outcome(complaint=complaint).model_dump()))


if __name__ == "__main__":
    main()
