"""One HTML page that needs nothing beside it: skeleton, style in dark and light, and media inside the file."""

from __future__ import annotations

import base64
import html

# No external address may load anything: neither a tracker in a hostile text nor a font of ours.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# A page that a server of ours shows asks this server, and nobody else.
_SERVED = _POLICY.replace("img-src", "connect-src 'self'; base-uri 'none'; form-action 'none'; img-src 'self'")
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--panel:#f6f8fa;--quiet:#57606a;--line:#d8dee4;
--good:#1a7f37;--bad:#b3261e;--warn:#8a5a00;--link:#0b57d0}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2rem}a{color:var(--link)}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;
vertical-align:top}td.n,th.n{text-align:right}.scroll{overflow-x:auto}
.severe{color:var(--bad);font-weight:600}.warning{color:var(--warn)}.info,figcaption,dt{color:var(--quiet)}
.numbers{display:flex;gap:2rem;flex-wrap:wrap}.numbers div b{display:block;font-size:1.5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dd{margin:0;overflow-wrap:anywhere}
figure{margin:0}img,video{max-width:100%}code{font-size:.9em;overflow-wrap:anywhere}
@media(max-width:34rem){body{margin-top:1rem}dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--paper:#16191d;--panel:#1f242a;--quiet:#9aa4af;--line:#3a4048;
--good:#6fdd8b;--bad:#ff8a80;--warn:#e0b050;--link:#8ab4f8}img.plot{filter:invert(.9) hue-rotate(180deg)}}
"""


def page(title: str, body: str, style: str = "", script: str = "", *, served: bool = False) -> str:
    """A whole page.

    Args:
        title: Its name, as text; it is the heading too.
        body: HTML below the heading, with every text in it escaped.
        style: CSS of this page beside the common one.
        script: JavaScript that runs at the end.
        served: Whether the script and pictures ask the server that the page comes from.
    """
    name = html.escape(title)
    # Without one a browser asks the server for an icon, at an address of its own.
    icon = "<link rel=icon href=data:,>" if served else ""
    run = f"<script>{script}</script>" if script else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{_SERVED if served else _POLICY}">'
        f"{icon}<title>{name}</title>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<style>{_STYLE}{style}</style><h1>{name}</h1>{body}{run}</html>\n"
    )


def data_url(data: bytes, media_type: str) -> str:
    """Bytes as an address that holds them, e.g. of a picture (`image/png`) or a video (`video/mp4`)."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def plot(png: bytes, text: str) -> str:
    """A drawn diagram as an element that a dark page inverts; `text` says what it shows to those who cannot see it."""
    return f'<img class=plot alt="{html.escape(text)}" src="{data_url(png, "image/png")}">'
