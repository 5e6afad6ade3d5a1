"""The code's part in the keys of finished work: all of ours that is imported, and nothing that only prints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from posa_vla.code_digest import PLUMBING, code_digest, modules_of
from posa_vla.errors import BadInput
from posa_vla.pipeline.steps.evaluate import EVALUATION_CODE
from posa_vla.pipeline.steps.train import TRAINING_CODE

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our code, for tests that change it."""
    root = tmp_path_factory.mktemp("code")
    shutil.copytree(ROOT / "posa_vla", root / "posa_vla", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def changed(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_evidence_is_not_reused_once_the_limits_clip_otherwise(copied: Path) -> None:
    before = code_digest(EVALUATION_CODE, root=copied)
    training = code_digest(TRAINING_CODE, root=copied)
    changed(
        copied / "posa_vla" / "episodes" / "embodiment.py",
        "self.low is None else self.low,",
        "self.low is None else 2 * self.low,",
    )
    assert code_digest(EVALUATION_CODE, root=copied) != before
    assert code_digest(TRAINING_CODE, root=copied) != training


def test_the_gate_does_not_depend_on_the_simulator(copied: Path) -> None:
    assert not [name for name in modules_of("posa_vla.promotion.gate") if name.startswith("posa_vla.sim")]


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write(
        tmp_path,
        {
            "posa_vla/__init__.py": "",
            "posa_vla/sim/__init__.py": "from . import arm\n",
            "posa_vla/sim/arm.py": "from posa_vla.geometry import turn\nimport numpy\n",
            "posa_vla/sim/arm.xml": "<arm/>",
            "posa_vla/geometry.py": "def turn():\n    from .late import more\n    return more\n",
            "posa_vla/late.py": "JOB = 'posa_vla.job'\nfrom posa_vla import console\n",
            "posa_vla/job.py": "import typing\nif typing.TYPE_CHECKING:\n    from posa_vla.types import T\n",
            "posa_vla/types.py": "T = int\n",
            "posa_vla/console.py": "from posa_vla.behind import x\n",
            "posa_vla/behind.py": "x = 1\n",
        },
    )
    return tmp_path


def test_imports_are_followed_wherever_they_stand(small: Path) -> None:
    names = {"posa_vla.sim", "posa_vla.sim.arm", "posa_vla.geometry", "posa_vla.late", "posa_vla.job"}
    assert set(modules_of("posa_vla.sim", root=small)) == names


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("posa_vla/sim/arm.py", "from posa_vla.geometry import turn\nimport numpy\nx = 1\n", True),
        ("posa_vla/sim/arm.py", "# a remark\nfrom posa_vla.geometry import (\n    turn,\n)\nimport numpy\n", False),
        ("posa_vla/sim/arm.xml", "<arm joints='7'/>", True),
        ("posa_vla/late.py", "JOB = 'posa_vla.job'\nfrom posa_vla import console\nx = 1\n", True),
        ("posa_vla/job.py", "x = 1\n", True),
        ("posa_vla/types.py", "T = str\n", False),
        ("posa_vla/console.py", "x = 2\n", False),
        ("posa_vla/behind.py", "x = 2\n", False),
    ],
)
def test_what_changes_the_digest(small: Path, file: str, text: str, counts: bool) -> None:
    before = code_digest("posa_vla.sim", root=small)
    write(small, {file: text})
    assert (code_digest("posa_vla.sim", root=small) != before) is counts


def test_a_name_that_is_no_code_is_refused(small: Path) -> None:
    with pytest.raises(BadInput, match=r"posa_vla\.symulator"):
        code_digest("posa_vla.symulator", root=small)


def test_all_plumbing_is_there() -> None:
    """A name that was moved would silently be followed again, or followed no more."""
    for name in PLUMBING:
        assert modules_of(name)
