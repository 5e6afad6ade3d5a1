"""One episode as a page: frames with their anchors, curves, gripper events, and what validation found."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.labels import acting_grippers, anchor_labels
from posa_vla.dataset.validation.drawn_anchors import drawn, key_of
from posa_vla.dataset.validation.findings import Finding
from posa_vla.episodes.embodiment import UNSTATED, Channel, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.media.images import StoredImages
from posa_vla.html_page import page

# Frames that the page holds, and the largest side of each picture on it (pixels).
_FRAMES, _SIDE = 60, 320
_COLOURS = (
    "#3b6ea5",
    "#b3261e",
    "#2e7d32",
    "#8a5a00",
    "#6a4fb3",
    "#00838f",
    "#ad1457",
    "#558b2f",
    "#5d4037",
    "#455a64",
)
_STYLE = """
body{margin:1.5rem auto}h1{font-size:1.4rem}h2{font-size:1.05rem;margin:1.4rem 0 .2rem}
.cameras{display:flex;gap:1rem;flex-wrap:wrap}img{display:block;min-width:256px;image-rendering:auto;background:#000}
#bar{display:flex;gap:.8rem;align-items:center;margin:.8rem 0}#at{flex:1}svg{width:100%;height:13rem;display:block}
.key{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem}.dot{font-weight:700}
"""
_SCRIPT = """
const at=document.getElementById('at'),play=document.getElementById('play'),when=document.getElementById('when');
let timer=null;
function show(){const k=+at.value;document.querySelectorAll('img[data-role]').forEach(i=>{
i.src=FRAMES[i.dataset.role][k]});when.textContent='frame '+NUMBERS[k]+', '+TIMES[k].toFixed(2)+' s';
document.querySelectorAll('.now').forEach(l=>{const x=NUMBERS[k]/Math.max(LAST,1)*1000;
l.setAttribute('x1',x);l.setAttribute('x2',x)})}
function stop(){clearInterval(timer);timer=null;play.textContent='Play'}
play.onclick=()=>{if(timer){stop();return}play.textContent='Pause';if(+at.value>=+at.max)at.value=0;
timer=setInterval(()=>{if(+at.value>=+at.max){stop();return}at.value=+at.value+1;show()},STEP)};
at.oninput=show;show();
"""


def _pictures(
    episode: Episode, embodiment: Embodiment, chosen: list[int], widths: tuple[float, float]
) -> dict[str, list[str]]:
    labels = anchor_labels(episode, embodiment, widths)
    pictures = {}
    for role, camera in episode.cameras.items():
        wanted, images = set(chosen), camera.images
        frames = enumerate(images) if isinstance(images, StoredImages) else ((n, images[n]) for n in chosen)
        pictures[role] = [drawn(image, labels[role], n, _SIDE) for n, image in frames if n in wanted]
    return pictures


def _curves(name: str, values: NDArray[np.float32], channels: list[Channel], events: NDArray[np.int64]) -> str:
    """All channels of a vector over the frames, each scaled to its own range in the episode."""
    frames = len(values)
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    scaled = np.where(span > 0, (values - low) / np.where(span > 0, span, 1), 0.5)
    across = np.arange(frames) / max(frames - 1, 1) * 1000
    lines, key = [], []
    for column, channel in enumerate(channels):
        colour = _COLOURS[column % len(_COLOURS)]
        points = " ".join(f"{x:.1f},{195 - 190 * y:.1f}" for x, y in zip(across, scaled[:, column], strict=True))
        dashed = ' stroke-dasharray="6 3"' if column >= len(_COLOURS) else ""
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dashed}/>')
        unit = "" if channel.unit in {"1", UNSTATED} else f" {channel.unit}"
        size = f"{low[column]:.3g} to {low[column] + span[column]:.3g}{unit}"
        key.append(
            f'<span><span class=dot style="color:{colour}">—</span> {html.escape(f"{channel.name}: {size}")}</span>'
        )
    marks = [
        f'<line x1="{across[e]:.1f}" x2="{across[e]:.1f}" y1="0" y2="200" stroke="#8c959f" stroke-dasharray="4 4"/>'
        for e in events
    ]
    now = '<line class=now x1="0" x2="0" y1="0" y2="200" stroke="#ff8c00" stroke-width="2"/>'
    drawing = f'<svg viewBox="0 0 1000 200" preserveAspectRatio="none">{"".join(marks + lines)}{now}</svg>'
    return f"<h2>{name}</h2>{drawing}<div class=key>{''.join(key)}</div>"


def page_of(
    episode: Episode,
    embodiment: Embodiment,
    title: str,
    findings: list[Finding] | None = None,
    widths: tuple[float, float] = (math.inf, math.inf),
) -> str:
    """An episode as one HTML page that needs nothing beside it.

    Args:
        episode: The episode.
        embodiment: Its robot.
        title: What the page is called.
        findings: What validation found of it, or None where it was not validated.
        widths: See `anchor_labels`; what training masks is not drawn.

    Raises:
        BadInput: A picture cannot be decoded.
    """
    frames = len(episode)
    chosen = sorted(set(np.linspace(0, frames - 1, min(frames, _FRAMES)).round().astype(int).tolist()))
    events, acting = acting_grippers(episode, embodiment)
    hands = [f" ({embodiment.end_effectors[end]})" if embodiment.end_effectors else "" for end in acting]
    opens = [f"frame {event}{hand}" for event, hand in zip(events, hands, strict=True)]
    times = np.arange(frames) / episode.fps if episode.timestamps is None else episode.timestamps
    facts = {
        "instruction": episode.instruction or "(empty)",
        "embodiment": episode.embodiment,
        "source": episode.source,
        "success": "yes" if episode.success else "no",
        **_asked(episode),
        "length": f"{frames} frames, {times[-1]:.1f} s at {episode.fps:g} Hz",
        "gripper": ", ".join(opens) or "neither opens nor closes, or is not declared",
    }
    listed = "".join(f"<dt>{name}<dd>{html.escape(str(value))}" for name, value in facts.items())
    found = ""
    if findings is not None:
        rows = [f"<li class={f.severity}>{html.escape(f.rule + ': ' + f.value)}" for f in findings]
        found = f"<h2>Found by validation</h2><ul>{''.join(rows) or '<li>nothing'}</ul>"
    pictures = _pictures(episode, embodiment, chosen, widths)
    cameras = "".join(
        f'<figure><img data-role="{html.escape(role)}" alt="{html.escape(role)}" src="{urls[0]}">'
        f"<figcaption>{html.escape(role)}</figcaption></figure>"
        for role, urls in pictures.items()
    )
    step = round(1000 * times[-1] / max(len(chosen) - 1, 1)) if frames > 1 else 100
    data = (
        f"const FRAMES={_script_json(pictures)},NUMBERS={chosen},TIMES={[round(float(times[n]), 3) for n in chosen]},"
        f"LAST={frames - 1},STEP={max(step, 20)};"
    )
    body = (
        f"<dl>{listed}</dl><div id=bar><button id=play>Play</button>"
        f"<input id=at type=range min=0 max={len(chosen) - 1} value=0><span id=when></span></div>"
        f"<div class=cameras>{cameras}</div>"
        f"<p class=key>{key_of(embodiment)}<span>dashed: the gripper opens or closes</span></p>"
        + _curves("State", episode.state, embodiment.state, events)
        + _curves("Action", episode.action, embodiment.action, events)
        + found
    )
    return page(title, body, _STYLE, data + _SCRIPT)


def _asked(episode: Episode) -> dict[str, str]:
    """What the robot was asked frame by frame, where that is not the instruction."""
    if episode.prompts is None:
        return {}
    return {"prompts": ", ".join(f"from frame {frame}: {text or '(empty)'}" for frame, text in episode.asked())}


def _script_json(value: Any) -> str:
    """JSON that cannot end the script it stands in."""
    import json

    return json.dumps(value).replace("<", "\\u003c")
