"""infra/uv_install.py finds packages where pip is configured to look for them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "infra" / "uv_install.py"
HAS_UV = (Path(sys.executable).parent / "uv").exists()
pytestmark = pytest.mark.skipif(not HAS_UV, reason="set-up was by pip: uv is not in this environment")


def wheel(folder: Path, version: str) -> Path:
    """A wheel of an empty package, `posa-wheel-probe`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"posa_wheel_probe-{version}-py3-none-any.whl"
    info = f"posa_wheel_probe-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: posa-wheel-probe\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def index(folder: Path, version: str) -> str:
    """Address of a package index that has the probe in one version."""
    page = folder / "posa-wheel-probe" / "index.html"
    made = wheel(folder / "files", version)
    page.parent.mkdir()
    page.write_text(f'<a href="{made.as_uri()}">{made.name}</a>')
    return folder.as_uri()


def install(place: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    env = {**kept, "PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(place / "cache"), **settings}
    command = [sys.executable, str(SCRIPT), "--target", str(place / "installed"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def installed(place: Path) -> list[str]:
    return [path.name for path in (place / "installed").glob("*.dist-info")]


def test_a_local_wheel_is_taken_from_the_folder_that_pip_names(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "1.0+cpu")
    done = install(tmp_path, "posa-wheel-probe==1.0", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == ["posa_wheel_probe-1.0+cpu.dist-info"]


def test_every_index_of_a_configuration_file_is_searched(tmp_path: Path) -> None:
    first, second = index(tmp_path / "first", "1.0"), index(tmp_path / "second", "2.0")
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {first}\nextra-index-url = {second}\n")
    done = install(tmp_path, "posa-wheel-probe==2.0", PIP_CONFIG_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == ["posa_wheel_probe-2.0.dist-info"]


def test_an_index_of_the_command_wins_over_the_configured_one(tmp_path: Path) -> None:
    first, second = index(tmp_path / "first", "1.0"), index(tmp_path / "second", "2.0")
    done = install(tmp_path, "--index-url", second, "posa-wheel-probe==2.0", PIP_INDEX_URL=first)
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == ["posa_wheel_probe-2.0.dist-info"]


def test_a_configured_constraint_holds_beside_one_of_the_command(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "1.0")
    wheel(tmp_path / "wheels", "2.0")
    configured, given = tmp_path / "configured.txt", tmp_path / "given.txt"
    configured.write_text("posa-wheel-probe<2\n")
    given.write_text("posa-wheel-probe>=1\n")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONSTRAINT": str(configured)}
    done = install(tmp_path, "-c", str(given), "posa-wheel-probe", **settings)
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == ["posa_wheel_probe-1.0.dist-info"]


@pytest.mark.parametrize("name", ["PIP_NO_BINARY", "PIP_PLATFORM"])
def test_a_setting_that_uv_lacks_leaves_the_work_to_pip(tmp_path: Path, name: str) -> None:
    wheel(tmp_path / "wheels", "1.0")
    links = str(tmp_path / "wheels")
    done = install(tmp_path, "posa-wheel-probe", PIP_NO_INDEX="1", PIP_FIND_LINKS=links, **{name: ":all:"})
    assert done.returncode == 3
    assert name.removeprefix("PIP_").lower().replace("_", "-") in done.stderr
    assert not installed(tmp_path)
