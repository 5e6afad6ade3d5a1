"""The page on which a person clicks; its style and script are files beside this one."""

from __future__ import annotations

from importlib.resources import files

from posa_vla.html_page import page

_BODY = """
<p id=step class=info></p>
<p id=task></p>
<p id=wait class=info hidden>Working …</p>
<div id=problem role=alert hidden></div>
<main id=clicking hidden>
  <div id=stage>
    <div id=picture tabindex=0 role=application aria-describedby=keys>
      <img id=image alt="">
      <div id=mark hidden></div><div id=across></div><div id=down></div>
    </div>
    <aside>
      <canvas id=loupe width=220 height=220 role=img aria-label="The picture around the crosshair, magnified"></canvas>
      <p id=where class=info></p>
      <figure id=later hidden><div class="shot small"><img alt="The gripper at the place"><div id=ring class=ring></div>
        </div><figcaption>Here the gripper closes later. Click this place in the large picture.</figcaption></figure>
      <div class=buttons>
        <button id=skip>Hidden, skip <kbd>S</kbd></button>
        <button id=undo>Undo <kbd>U</kbd></button>
        <button id=find>Find the camera</button>
        <button id=leave class=quiet></button>
      </div>
      <p id=keys class=info>Keys, while the picture has the focus: arrows move the crosshair by 1 pixel, with Shift by
        10; Enter clicks; S skips the picture; U undoes; N and P go to the next picture and the one before.</p>
    </aside>
  </div>
  <ol id=frames aria-label="The pictures to click in"></ol>
</main>
<main id=judging hidden>
  <div id=verdict></div>
  <div class=buttons>
    <button id=accept class=main>Accept</button>
    <button id=again>Click again</button>
    <button id=more>Click in more pictures</button>
    <button id=leave-judged class=quiet></button>
  </div>
  <h2 id=others-name></h2>
  <div id=others class=sheet></div>
  <h2 id=clicked-name>Your clicks</h2>
  <p class=info>The cross is your click, the ring is where the camera sees the point.</p>
  <div id=clicked class=sheet></div>
</main>
<main id=done hidden tabindex=-1><p id=outcome></p></main>
<div id=said class=unseen aria-live=polite></div>
"""


def clicking_page() -> str:
    """The page, the same whatever is clicked: its script asks the server what to show."""
    here = files(__package__)
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return page("Click the gripper", _BODY, style, script, served=True)
