"""Contract suites of `Robot`, `Policy` and `Objects`, which a plug-in's author runs with pytest (docs/drivers.md)."""

from __future__ import annotations

from posa_vla.errors import to_install

try:
    import pytest
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        f"the contract suites run under pytest, which is not installed: {to_install('testing')}", name="pytest"
    ) from None

# Before the suites are imported: their failures then show the values that were compared.
pytest.register_assert_rewrite(
    "posa_vla.testing.objects_contract", "posa_vla.testing.policy_contract", "posa_vla.testing.robot_contract"
)

from posa_vla.testing.objects_contract import ObjectsContract  # noqa: E402 (see above)
from posa_vla.testing.policy_contract import PolicyContract  # noqa: E402 (likewise)
from posa_vla.testing.robot_contract import RobotContract  # noqa: E402 (likewise)

__all__ = ["ObjectsContract", "PolicyContract", "RobotContract"]
