"""Every reader of JSON from outside says what is wrong with hostile text, and goes on."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from releases import TARGET, Channel, make_trust
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from posa_vla.errors import PosaError
from posa_vla.evidence.record import read_evidence
from posa_vla.files import read_json, sha256_bytes
from posa_vla.ledger import Ledger
from posa_vla.promotion.log import PromotionLog
from posa_vla.release.bundle import parse_manifest
from posa_vla.release.channel import ChannelClient
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import PAYLOAD_TYPE, read_record, verify
from posa_vla.release.trust import read_trust
from posa_vla.robot.station.client import ask
from posa_vla.robot.station.local_socket import Station
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.fault

DEEP = b'{"a":' * 100_000
TWICE = b'{"schema_version": 1, "schema_version": 1}'
HOSTILE = {"deep": DEEP, "twice": TWICE, "half a pair": rb'{"\ud800": 1}', "huge": b'{"a": ' + b"9" * 9999 + b"}"}


def _file(read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def reader(folder: Path, data: bytes) -> object:
        (folder / "file.json").write_bytes(data)
        return read(folder / "file.json")

    return reader


def _ledger(folder: Path, data: bytes) -> object:
    workspace = Workspace.open(Settings(home=folder / "home"))
    path = workspace.home / "ledger" / "train" / f"{'0' * 64}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return list(Ledger(workspace).entries())


def _log(folder: Path, data: bytes) -> object:
    (folder / "log.jsonl").write_bytes(data + b"\n")
    return PromotionLog(folder / "log.jsonl").entries()


def _trust(folder: Path, data: bytes) -> object:
    (folder / "root.json").write_bytes(data)
    return read_trust(folder)


def _signed(folder: Path, data: bytes) -> object:
    """The publisher's own signature on it, so that the reader gets as far as the payload."""
    signer = CryptoSigner.generate_ed25519()
    envelope = Envelope(data, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return verify(json.dumps(envelope.to_dict()).encode(), make_trust(signer))


def _manifest(folder: Path, data: bytes) -> object:
    return parse_manifest(data, sha256_bytes(data), "bundle")


def _station_answers(folder: Path, data: bytes) -> object:
    """Something else than a station listens on the socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(data + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            return ask(folder / "socket", {"command": "status"}, timeout=10)
        finally:
            thread.join()


READERS: dict[str, Callable[[Path, bytes], object]] = {
    "any file": _file(read_json),
    "evidence": _file(read_evidence),
    "ledger": _ledger,
    "promotion log": _log,
    "trust": _trust,
    "envelope": lambda folder, data: read_record(data),
    "signed record": _signed,
    "manifest": _manifest,
    "station's answer": _station_answers,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_reader_says_what_is_wrong(tmp_path: Path, reader: str, text: str) -> None:
    with pytest.raises(PosaError):
        READERS[reader](tmp_path, HOSTILE[text])


def test_a_station_refuses_a_hostile_request_and_answers_the_next(tmp_path: Path) -> None:
    station = Station(tmp_path / "socket", str, lambda: {"target": TARGET})
    with station.open():
        for text in HOSTILE.values():
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(tmp_path / "socket"))
                connection.sendall(text[:4000] + b"\n")
                assert b"refused" in connection.recv(10_000)
        assert ask(tmp_path / "socket", {"command": "status"}, timeout=10) == {"target": TARGET}


def test_signed_metadata_that_is_nested_without_end_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    channel = Channel(tmp_path, str(tmp_path / "channel"))
    channel.publish(1)
    client = ChannelClient(channel.location, tmp_path / "tuf", channel.publisher.root_bytes())
    for place in sorted((tmp_path / "channel" / "metadata").glob("*.json")):
        sound = place.read_bytes()
        for text in (DEEP, TWICE):
            place.write_bytes(text)
            if "root" not in place.name:
                with pytest.raises(PosaError):
                    client.latest(TARGET)
            with pytest.raises(PosaError):
                Publisher(channel.location, tmp_path / "keys").settle()
        place.write_bytes(sound)
    assert client.latest(TARGET) is not None
