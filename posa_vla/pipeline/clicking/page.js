'use strict';
const by = id => document.getElementById(id);
// What the server told last, the picture that is shown, and the crosshair in its pixels.
let state = null, current = 0, at = [0, 0], busy = false;

const name = frame => `episode ${frame[0]}, frame ${frame[1]}`;
// Of several grippers, the one that is asked for; nothing of a lone one.
const gripper = told => told.end_effector === null ? '' : `, ${told.end_effector} gripper`;
const address = frame => `picture/${state.step}/${frame[0]}/${frame[1]}`;
const say = text => { by('said').textContent = text; };

function problem(text) {
  by('problem').textContent = text;
  by('problem').hidden = !text;
}

async function ask(path, options) {
  if (busy) return;
  busy = true;
  const late = setTimeout(() => { by('wait').hidden = false; say('Working'); }, 400);
  try {
    const answer = await fetch(path, options);
    if (!answer.ok) { problem((await answer.text()).trim()); return; }
    problem('');
    show(await answer.json());
  } catch {
    problem('The command has ended. Start the same command again: what was clicked is kept.');
  } finally {
    busy = false;
    clearTimeout(late);
    by('wait').hidden = true;
  }
}

const act = (what, more) => ask('do', {
  method: 'POST', headers: {'Content-Type': 'application/json'},
  body: JSON.stringify({step: state.step, do: what, ...more}),
});

// Text with «» where the gripper's name stands.
const what = several => ({
  tip: state.on_hand
    ? several
      ? `Camera ${state.role} is on the hand «», and sees its gripper's tip always in the same place. Click the point between its finger tips once.`
      : `Camera ${state.role} is on the hand, and sees the gripper's tip always in the same place. Click the point between the finger tips once.`
    : several
      ? `Camera ${state.role}: click the point between the finger tips of the «» gripper, and of no other.`
      : `Camera ${state.role}: click the point between the finger tips, where the gripper holds things.`,
  place: `Camera ${state.role}: click the place where the ${several ? '«» ' : ''}gripper will close, for example on the object that it picks up. Skip pictures in which it is not seen.`,
}[state.target]);

function asked(told) {
  const [before, after] = what(told.end_effector !== null).split('«»');
  by('task').textContent = before;
  if (after === undefined) return;
  const whose = document.createElement('strong');
  whose.className = `whose end${told.end % 2}`;
  whose.textContent = told.end_effector;
  by('task').append(whose, after);
}

function show(told) {
  const before = state;
  state = told;
  for (const phase of ['clicking', 'judging', 'done']) by(phase).hidden = true;
  by('step').textContent = state.steps > 1 && state.phase !== 'done' ? `Step ${state.step + 1} of ${state.steps}` : '';
  if (state.phase === 'done') { showDone(); return; }
  const leave = state.target === 'place' ? "Leave out: the end-effector's label is enough" : 'Leave this camera out';
  by('leave').textContent = by('leave-judged').textContent = leave;
  if (state.phase === 'judge') { showJudged(); return; }
  by('clicking').hidden = false;
  if (state.at !== null) current = state.at;
  else if (!before || before.step !== state.step) current = Math.max(0, state.frames.findIndex(f => !f.click));
  showFrames();
  select(Math.min(current, state.frames.length - 1));
  by('picture').focus();
}

function showFrames() {
  const list = by('frames'), clicked = state.frames.filter(f => f.click).length;
  list.hidden = state.frames.length < 2;
  list.replaceChildren(...state.frames.map((told, number) => {
    const button = document.createElement('button'), image = new Image(), text = document.createElement('span');
    image.src = address(told.frame); image.alt = '';
    text.textContent = [number + 1, told.end_effector, told.click ? '✓ clicked' : 'open'].filter(Boolean).join(' ');
    button.append(image, text);
    button.classList.toggle('clicked', Boolean(told.click));
    button.setAttribute('aria-label', `Picture ${number + 1}${gripper(told)}, ${name(told.frame)}, `
      + (told.click ? 'clicked' : 'open'));
    button.onclick = () => { select(number); by('picture').focus(); };
    const item = document.createElement('li');
    item.append(button);
    return item;
  }));
  by('find').textContent = `Find the camera (${clicked} of ${state.frames.length} clicked)`;
  by('find').hidden = state.frames.length < 2;
  by('find').disabled = !clicked;
  by('undo').disabled = !clicked && !state.skipped;
}

function select(number) {
  const told = state.frames[number];
  if (!told) { problem('There is no picture left to click in: undo, or leave this out.'); return; }
  current = number;
  for (const [n, item] of [...by('frames').children].entries())
    item.firstChild.setAttribute('aria-current', String(n === number));
  asked(told);
  const image = by('image'), box = by('picture');
  box.style.aspectRatio = `${state.width}/${state.height}`;
  box.style.maxWidth = `min(100%, ${(72 * state.width / state.height).toFixed(1)}vh)`;
  image.src = address(told.frame);
  image.onload = loupe;
  box.setAttribute('aria-label', `Picture ${number + 1} of ${state.frames.length}${gripper(told)}, ${name(told.frame)}, `
    + `${state.width} by ${state.height} pixels`);
  at = told.click ? [...told.click] : [state.width / 2, state.height / 2];
  mark(by('mark'), told.click);
  by('mark').className = 'cross';
  by('later').hidden = !told.later;
  if (told.later) {
    by('later').querySelector('img').src = address(told.later);
    mark(by('ring'), state.tip);
  }
  move();
  say(`Picture ${number + 1} of ${state.frames.length}${gripper(told)}` + (told.click ? ', clicked before' : ''));
}

function mark(element, pixel) {
  element.hidden = !pixel;
  if (!pixel) return;
  element.style.left = `${100 * pixel[0] / state.width}%`;
  element.style.top = `${100 * pixel[1] / state.height}%`;
}

function move() {
  at = [Math.min(Math.max(at[0], 0), state.width), Math.min(Math.max(at[1], 0), state.height)];
  by('down').style.left = `${100 * at[0] / state.width}%`;
  by('across').style.top = `${100 * at[1] / state.height}%`;
  by('where').textContent = `Picture ${current + 1}: ${at[0].toFixed(0)} across, ${at[1].toFixed(0)} down`;
  loupe();
}

function loupe() {
  const canvas = by('loupe'), image = by('image'), pen = canvas.getContext('2d'), size = canvas.width;
  pen.fillStyle = '#000';
  pen.fillRect(0, 0, size, size);
  if (!image.complete || !image.naturalWidth) return;
  pen.imageSmoothingEnabled = false;
  // The loupe shows a sixteenth of the picture's longer side.
  const zoom = size * 16 / Math.max(state.width, state.height);
  pen.drawImage(image, size / 2 - at[0] * zoom, size / 2 - at[1] * zoom, state.width * zoom, state.height * zoom);
  for (const [colour, width] of [['#000', 3], ['#fff', 1]]) {
    pen.strokeStyle = colour; pen.lineWidth = width;
    pen.beginPath();
    for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(size / 2 + 6 * x, size / 2 + 6 * y);
      pen.lineTo(size / 2 + size * x, size / 2 + size * y);
    }
    pen.stroke();
  }
}

function item(told, captions) {
  const figure = document.createElement('figure'), shot = document.createElement('div'), image = new Image();
  shot.className = 'shot';
  shot.style.aspectRatio = `${state.width}/${state.height}`;
  image.src = address(told.frame);
  image.alt = `${name(told.frame)}, ${captions}`;
  shot.append(image);
  for (const [kind, pixel] of [['ring', told.seen], ['cross', told.click]]) {
    if (!pixel) continue;
    const element = document.createElement('div');
    element.className = kind;
    mark(element, pixel);
    shot.append(element);
  }
  const caption = document.createElement('figcaption');
  caption.textContent = captions;
  figure.append(shot, caption);
  figure.classList.toggle('rejected', Boolean(told.rejected));
  return figure;
}

function list(kind, title, texts) {
  const box = document.createElement('div'), head = document.createElement('b'), lines = document.createElement('ul');
  box.className = kind;
  head.textContent = title;
  lines.append(...texts.map(text => { const line = document.createElement('li'); line.textContent = text; return line; }));
  box.append(head, lines);
  return box;
}

function showJudged() {
  const result = state.result, texts = [], tipOnly = state.on_hand && state.target === 'tip';
  by('judging').hidden = false;
  by('task').textContent = result.accepted
    ? `Camera ${state.role}: does the ring sit on ${state.target === 'tip' ? "the gripper's tip" : 'the place'} in the pictures below?`
    : `Camera ${state.role}: this is not good enough yet.`;
  if (result.error !== null) texts.push(`reprojection error of the clicks that were used: ${result.error.toFixed(1)} px`);
  if (result.uncertainty !== null)
    texts.push(`a label is uncertain by ${(100 * result.uncertainty).toFixed(1)} % of the picture's longer side`);
  const said = result.accepted
    ? list('good', `${tipOnly ? 'The tip is known in this camera' : 'The camera is found'}. Judge it by eye, then accept it, or click again.`,
      [...texts, ...result.remarks])
    : list('bad', 'Not accepted', [...result.reasons, ...result.remarks, ...texts]);
  const doubts = result.doubts.length ? [list('doubt', 'Look closely', result.doubts)] : [];
  by('verdict').replaceChildren(said, ...doubts);
  by('verdict').tabIndex = -1;
  by('accept').hidden = !result.accepted;
  by('again').classList.toggle('main', !result.accepted);
  by('more').hidden = tipOnly;
  const seen = result.others.some(told => told.seen);
  by('others-name').hidden = by('others').hidden = !seen;
  by('others-name').textContent = 'Other pictures, in which nobody clicked';
  by('others').replaceChildren(...(seen ? result.others : []).map(told =>
    item(told, name(told.frame) + gripper(told) + (told.seen ? '' : ': not in view'))));
  by('clicked').replaceChildren(...state.frames.map((told, number) => [told, number]).filter(([told]) => told.click)
    .map(([told, number]) => item(told, `${number + 1}, ${name(told.frame)}${gripper(told)}`
      + (told.miss === null ? '' : `: ${told.miss.toFixed(0)} px off`) + (told.rejected ? ', not used' : ''))));
  by('verdict').focus();
  window.scrollTo(0, 0);
  say((result.accepted ? 'Found. ' : 'Not accepted. ') + [...result.reasons, ...texts, ...result.doubts].join('. '));
}

function showDone() {
  by('done').hidden = false;
  by('task').textContent = '';
  const kept = state.tasks.filter(task => task.accepted);
  const roles = [...new Set(kept.map(task => task.role))].join(', ');
  by('outcome').textContent = (kept.length ? `The calibration file has ${roles}. ` : 'No camera was accepted. ')
    + 'The command has ended; this page can be closed.';
  by('done').focus();
  say(by('outcome').textContent);
}

function place(event) {
  const box = by('image').getBoundingClientRect();
  at = [(event.clientX - box.left) / box.width * state.width, (event.clientY - box.top) / box.height * state.height];
  move();
}

const click = () => act('click', {number: current, u: at[0], v: at[1]});
const next = step => { const n = state.frames.length; select((current + step + n) % n); };

by('picture').onpointermove = event => { if (!busy) place(event); };
by('picture').onclick = event => { if (!busy) { place(event); click(); } };
by('picture').onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey || busy) return;
  const step = event.shiftKey ? 10 : 1;
  const keys = {
    ArrowLeft: () => { at[0] -= step; move(); }, ArrowRight: () => { at[0] += step; move(); },
    ArrowUp: () => { at[1] -= step; move(); }, ArrowDown: () => { at[1] += step; move(); },
    Enter: click, ' ': click, s: () => act('skip', {number: current}), u: () => act('undo'),
    n: () => next(1), p: () => next(-1),
  };
  const done = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!done) return;
  event.preventDefault();
  done();
  if (event.key.startsWith('Arrow')) say(by('where').textContent);
};
by('skip').onclick = () => act('skip', {number: current});
by('undo').onclick = () => act('undo');
by('find').onclick = () => act('judge');
by('accept').onclick = () => act('accept');
by('again').onclick = () => act('again');
by('more').onclick = () => act('more');
by('leave').onclick = by('leave-judged').onclick = () => act('leave');
ask('state');
