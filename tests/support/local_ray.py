"""Ray in this process, for tests that put faults into the programs of jobs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def local_ray() -> Iterator[None]:
    """A cluster of this process, on which a job's program runs when it is called as a function.

    Ray reads the token that guards it when it is imported, and once more here: another test may have imported it while
    there was none.
    """
    import ray
    from ray._private.authentication_test_utils import reset_auth_token_state

    reset_auth_token_state()

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=folder, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
