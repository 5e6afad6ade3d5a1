"""Rows: what stands in files of settings and in variables, and in which encoding."""

from __future__ import annotations

from machine_row import RETRAIN, Place, row

# Reads parameters as all commands do, before it looks at its data, and imports little.
_READS_PARAMS = ("train", "--data", "nowhere", "--out", "out")


def change_params(place: Place, old: str, new: str) -> None:
    """Writes other words into params.yaml."""
    path = place.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text, f"params.yaml has no {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@row("severity off and 1e-3, as documented, and a retraining", slow=True)
def words_of_yaml(place: Place) -> None:
    words = ("--set", "validation.black.severity=off", "--set", "train.learning_rate=1e-3")
    place.posa(*RETRAIN, *words, seconds=900).retrained()


@row("a number with a leading zero")
def leading_zero(place: Place) -> None:
    place.posa(*_READS_PARAMS, "--set", "train.steps=0600").refused('"0600"')


@row("a key twice in params.yaml")
def key_twice(place: Place) -> None:
    with (place.folder / "params.yaml").open("a", encoding="utf-8") as params:
        params.write("targets: {}\n")
    place.posa(*_READS_PARAMS).refused("targets", "stands here and in line 4")


@row("a target's name that no folder, server and channel takes")
def name_of_a_target(place: Place) -> None:
    change_params(place, "sim-pick", "sim/pick")
    place.posa(*_READS_PARAMS).refused("sim/pick")


@row("params.yaml in UTF-16, and with a byte order mark")
def encodings(place: Place) -> None:
    path = place.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-16")
    place.posa(*_READS_PARAMS).refused("UTF-16", "save it as UTF-8")
    path.write_text(text, encoding="utf-8-sig")
    place.posa(*_READS_PARAMS, "--set", "train.step=1").refused("did you mean")


@row("a locale that is not UTF-8")
def locale(place: Place) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    place.posa("robot", "run", "--config", "Würfel.yaml", shell=plain).refused("Würfel.yaml does not exist")


@row("settings that are there and empty", slow=True)
def empty_settings(place: Place) -> None:
    place.posa("doctor", shell={"POSA_HOME": "", "POSA_CODE_DIRTY": "", "POSA_PREFECT_API_URL": ""}).succeeded()
    found = sorted(path.name for path in place.folder.iterdir())
    assert found == ["params.yaml"], f"the working folder was written to: {found}"
    place.posa("doctor", shell={"POSA_CODE_DIRTY": "maybe"}).refused("POSA_CODE_DIRTY", "maybe")
