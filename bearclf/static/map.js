// The browser's half of `MapView`, in nbs/library/clean/21c_map.ipynb: a map of photos and a table beside it. Python
// holds everything, and `app` is what the pieces here share.

// An element; what people wrote, such as a file name, only ever becomes text
const make = (tag, attrs = {}, ...kids) => {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (v === undefined || v === null || v === false) continue;
    if (k in e) e[k] = v;
    else e.setAttribute(k, v);
  }
  e.append(...kids.filter((o) => o !== null && o !== undefined));
  return e;
};
const button = (text, onclick, more = {}) => make('button', { type: 'button', textContent: text, onclick, ...more });
const choice = (value, text) => make('option', { value, textContent: text });
const count = (n, what = 'photo') => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

const KEEP = '<Keep>', DELETE = '<Delete>', LIKE = '<Like>', ROWS = 24, WAITING = 'Waiting for the kernel …';
const inWords = (what) => what === DELETE ? '✕ delete' : what === KEEP ? '✓ keep' : what ? `→ ${what}` : '';
const COLOURS = [
  '#3b82c4',
  '#d97706',
  '#0f9d76',
  '#c8529b',
  '#8b6fd6',
  '#a39000',
  '#4aa3df',
  '#b5563c',
  '#5c8a3a',
  '#74869a',
];
const HEAT = [
  ['below 0.25', '#8f9aa6'],
  ['0.25 to 0.5', '#c9a35b'],
  ['0.5 to 0.75', '#e08a1e'],
  ['0.75 to 0.9', '#d9542b'],
  ['0.9 and more', '#c2185b'],
];
const DONE = [['nothing yet', '#8f9aa6'], ['keep', '#2f9e5f'], ['delete', '#d0392b'], ['another class', '#d97706']];
const BY = {
  label: 'label',
  prediction: 'what the model takes it for',
  score: 'suspicion',
  split: 'training or validation',
  decision: 'decision',
};
const SPLITS = { train: 'training', valid: 'validation', '': 'neither' };

// What the points are coloured by: the number of the colour of each, and what the colours mean
function colouring(app) {
  const { n, by } = app, at = new Uint16Array(n);
  if (by === 'score') {
    for (let i = 0; i < n; i++) at[i] = [0.25, 0.5, 0.75, 0.9].filter((o) => app.score[i] >= o).length;
    return { at, keys: HEAT };
  }
  if (by === 'decision') {
    for (const [i, what] of app.decided) at[i] = what === KEEP ? 1 : what === DELETE ? 2 : 3;
    return { at, keys: DONE };
  }
  const name = (o) => by === 'split' ? SPLITS[o] ?? o : o || 'no label yet';
  return { at: app.codes[by], keys: app.info.groups[by].map((o, i) => [name(o), COLOURS[i % COLOURS.length]]) };
}

// Where a photo is on the screen, in CSS pixels. As great distances mean nothing, the map fills its place, but neither
// side is drawn out to more than twice the other
function placed(app) {
  const { w, h, zoom, xy, px } = app, low = [1, 1], high = [0, 0];
  for (let i = 0; i < xy.length; i++) {
    low[i % 2] = Math.min(low[i % 2], xy[i]);
    high[i % 2] = Math.max(high[i % 2], xy[i]);
  }
  const fit = [w, h].map((o, k) => (o - 36) / Math.max(high[k] - low[k], 1e-6));
  const [sx, sy] = fit.map((o) => Math.min(o, 2 * Math.min(...fit)) * zoom.k);
  const x = w / 2 + zoom.x - sx * (low[0] + high[0]) / 2, y = h / 2 + zoom.y + sy * (low[1] + high[1]) / 2;
  for (let i = 0; i < app.n; i++) {
    px[2 * i] = x + sx * xy[2 * i];
    px[2 * i + 1] = y - sy * xy[2 * i + 1];
  }
}

const radius = (app) => (app.n < 700 ? 4.6 : app.n < 3000 ? 3.6 : 2.4) * Math.min(2, Math.sqrt(app.zoom.k));

// One point: a circle is left to be filled with the others, a small square is there at once, which is much quicker
function dot(app, ctx, i, r) {
  const x = app.px[2 * i], y = app.px[2 * i + 1];
  if (x < -r || y < -r || x > app.w + r || y > app.h + r) return;
  if (r < 3) return ctx.fillRect(x - r, y - r, 2 * r, 2 * r);
  ctx.moveTo(x + r, y);
  ctx.arc(x, y, r, 0, 7);
}

function rings(app, ctx, some, r) {
  ctx.beginPath();
  for (const i of some) {
    ctx.moveTo(app.px[2 * i] + r, app.px[2 * i + 1]);
    ctx.arc(app.px[2 * i], app.px[2 * i + 1], r, 0, 7);
  }
  ctx.stroke();
}

// The lower canvas: all points, once for each change
function draw(app) {
  if (!app.n || !app.w) return;
  placed(app);
  const ctx = app.base.getContext('2d'), ink = getComputedStyle(app.el).color, r = radius(app);
  const { at, keys } = colouring(app);
  ctx.setTransform(app.dpr, 0, 0, app.dpr, 0, 0);
  ctx.clearRect(0, 0, app.w, app.h);
  const dim = (i) => app.chosen ? !app.selected[i] : app.only !== null && app.only !== at[i];
  for (const bright of [false, true]) {
    ctx.globalAlpha = bright ? 0.9 : 0.22;
    keys.forEach(([, colour], k) => {
      ctx.fillStyle = colour;
      ctx.beginPath();
      for (let i = 0; i < app.n; i++) if (at[i] === k && dim(i) !== bright) dot(app, ctx, i, r);
      ctx.fill();
    });
  }
  ctx.globalAlpha = 1;
  ctx.lineWidth = 1.6;
  const marks = [[KEEP, DONE[1][1]], [DELETE, DONE[2][1]], [null, DONE[3][1]]];
  for (const [what, colour] of marks) {
    const some = [...app.decided].filter(([, o]) => what ? o === what : o !== KEEP && o !== DELETE).map(([i]) => i);
    ctx.strokeStyle = colour;
    rings(app, ctx, some, r + 2.5);
  }
  if (app.chosen && app.chosen < 1000) {
    ctx.strokeStyle = ink;
    ctx.lineWidth = 1;
    ctx.globalAlpha = 0.6;
    rings(app, ctx, app.ids, r);
    ctx.globalAlpha = 1;
  }
  over(app);
}

// The upper canvas: what moves with the hand
function over(app) {
  const ctx = app.upper.getContext('2d'), ink = getComputedStyle(app.el).color;
  ctx.setTransform(app.dpr, 0, 0, app.dpr, 0, 0);
  ctx.clearRect(0, 0, app.w, app.h);
  ctx.strokeStyle = ink;
  if (app.path) {
    ctx.beginPath();
    app.path.forEach(([x, y], i) => i ? ctx.lineTo(x, y) : ctx.moveTo(x, y));
    ctx.closePath();
    ctx.globalAlpha = 0.1;
    ctx.fillStyle = ink;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.setLineDash([5, 4]);
    ctx.stroke();
    ctx.setLineDash([]);
  }
  for (const [i, width] of [[app.at, 3], [app.hover, 1.5]]) {
    if (i < 0) continue;
    ctx.lineWidth = width;
    rings(app, ctx, [i], Math.max(radius(app), 3) + 5);
  }
}

function nearest(app, x, y, most) {
  let best = -1, least = most * most;
  for (let i = 0; i < app.n; i++) {
    const dx = app.px[2 * i] - x, dy = app.px[2 * i + 1] - y, d = dx * dx + dy * dy;
    if (d < least) [best, least] = [i, d];
  }
  return best;
}

// The photos inside of a line: of the edges that a ray to the right crosses, the number is odd
function inside(app, path) {
  const found = [];
  for (let i = 0; i < app.n; i++) {
    const x = app.px[2 * i], y = app.px[2 * i + 1];
    let odd = false;
    for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
      const [ax, ay] = path[a], [bx, by] = path[b];
      if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return found;
}

// The hand on the map: a line drawn around photos selects them, a click finds one in the table
function hand(app) {
  const { upper } = app, place = (e) => [e.offsetX, e.offsetY];
  let from = null;
  upper.onpointerdown = (e) => {
    if (e.button > 1) return;
    from = { at: place(e), move: app.tool === 'move' || e.button === 1, x: app.zoom.x, y: app.zoom.y };
    try {
      upper.setPointerCapture(e.pointerId);
    } catch { /* a pointer that is gone already */ }
    app.point(-1);
  };
  upper.onpointermove = (e) => {
    const [x, y] = place(e);
    if (!from) return app.point(nearest(app, x, y, 14));
    if (from.move) {
      Object.assign(app.zoom, { x: from.x + x - from.at[0], y: from.y + y - from.at[1] });
      return app.redraw();
    }
    app.path = app.path || [from.at];
    app.path.push([x, y]);
    app.redraw(true);
  };
  upper.onpointerup = (e) => {
    if (!from) return;
    const path = app.path || [], far = path.some(([x, y]) => Math.hypot(x - from.at[0], y - from.at[1]) > 6);
    const move = from.move, add = e.shiftKey || e.ctrlKey || e.metaKey;
    app.path = from = null;
    if (far) app.choose(inside(app, path), e.altKey ? 'without' : add ? 'add' : '');
    else if (!move || e.button === 0) app.click(nearest(app, ...place(e), 14), add);
    app.redraw(true);
  };
  upper.onpointercancel = () => {
    app.path = from = null;
    app.redraw(true);
  };
  upper.onpointerleave = () => !from && app.point(-1);
  upper.ondblclick = (e) => {
    const i = nearest(app, ...place(e), 14);
    if (i >= 0) app.ask('large', { id: i });
  };
  upper.addEventListener('wheel', (e) => {
    if (!e.ctrlKey && !e.metaKey) return; // a plain wheel scrolls the page
    e.preventDefault();
    app.zoomBy(Math.exp(-e.deltaY / 300), ...place(e));
  }, { passive: false });
}

// The photo that lies nearest in a direction, of those in a quarter of the circle
function towards(app, dx, dy) {
  if (app.at < 0) return 0;
  const x = app.px[2 * app.at], y = app.px[2 * app.at + 1];
  let best = app.at, least = Infinity;
  for (let i = 0; i < app.n; i++) {
    const ax = app.px[2 * i] - x,
      ay = app.px[2 * i + 1] - y,
      along = ax * dx + ay * dy,
      off = Math.abs(ax * dy - ay * dx);
    if (along > 0.5 && along >= off && along + 2 * off < least) [best, least] = [i, along + 2 * off];
  }
  return best;
}

const LEGEND = [
  ['← → ↑ ↓', 'to the next photo that way'],
  ['Space', 'select it, or not'],
  ['g', 'select the ten nearest on the map as well'],
  ['m', 'select more like this one'],
  ['k', 'keep'],
  ['d', 'delete'],
  ['1 … 9', 'class'],
  ['u', 'take the last decisions back'],
  ['Enter', 'larger'],
  ['+ − 0', 'nearer, farther, all'],
  ['Escape', 'select none'],
  ['Shift, Alt', 'while drawing: these as well, without these'],
];

// No key is passed on to Jupyter, where `d d` deletes a cell
function key(app, e) {
  e.stopPropagation();
  if (app.big.open) return; // Escape closes it
  if (['INPUT', 'SELECT', 'SUMMARY', 'BUTTON'].includes(e.target.tagName) && e.target.type !== 'checkbox') return;
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.type === 'checkbox' && e.key === ' ') return;
  const step = (dx, dy) => () => app.n && app.go(towards(app, dx, dy));
  const keys = {
    ArrowRight: step(1, 0),
    ArrowLeft: step(-1, 0),
    ArrowDown: step(0, 1),
    ArrowUp: step(0, -1),
    Escape: () => app.choose([]),
    '+': () => app.zoomBy(1.5),
    '-': () => app.zoomBy(1 / 1.5),
    '0': () => app.zoomBy(0),
    '?': () => app.legend.hidden = !app.legend.hidden,
    u: () => app.info.back && app.ask('take_back'),
    k: () => app.decide(KEEP),
    d: () => app.decide(DELETE),
  };
  const on = {
    ' ': () => app.choose([app.at], app.selected[app.at] ? 'without' : 'add'),
    g: () => app.choose(around(app, 10), 'add'),
    m: () => app.ask('more', { id: app.at }),
    Enter: () => app.ask('large', { id: app.at }),
  };
  const named = app.info.classes[+e.key - 1];
  const f = keys[e.key] || (app.at >= 0 && on[e.key]) || (named !== undefined && (() => app.decide(named)));
  if (!f) return;
  f();
  e.preventDefault();
}

function around(app, n) {
  const x = app.px[2 * app.at],
    y = app.px[2 * app.at + 1],
    far = (i) => Math.hypot(app.px[2 * i] - x, app.px[2 * i + 1] - y);
  const others = [...Array(app.n).keys()].filter((i) => i !== app.at && !app.selected[i]).map((i) => [far(i), i]);
  return [app.at, ...others.sort((a, b) => a[0] - b[0]).slice(0, n).map((o) => o[1])];
}

// What the colours mean; a click shows one of them alone
function colours(app) {
  const { at, keys } = colouring(app), n = new Array(keys.length).fill(0);
  for (let i = 0; i < app.n; i++) n[at[i]]++;
  const select = make('select', { 'aria-label': 'coloured by' });
  select.append(...Object.entries(BY).map(([k, v]) => choice(k, v)));
  select.value = app.by;
  select.onchange = () => {
    Object.assign(app, { by: select.value, only: null });
    colours(app);
    app.redraw();
    app.keys.querySelector('select').focus();
  };
  const swatch = (colour) => make('i', { className: 'swatch', style: `background:${colour}` });
  const items = keys.map(([name, colour], k) => {
    const only = () => {
      app.only = app.only === k ? null : k;
      colours(app);
      app.redraw();
      app.keys.querySelectorAll('.key')[k]?.focus();
    };
    const e = button('', only, { className: 'key', 'aria-pressed': `${app.only === k}`, title: 'show these alone' });
    e.append(
      swatch(colour),
      make('bdi', { textContent: name }),
      make('span', { textContent: ` ${n[k].toLocaleString('en')}` }),
    );
    return e;
  });
  app.keys.replaceChildren(make('label', {}, 'coloured by ', select), ...items);
}

// A row of the table; its picture comes when Python has sent it
function row(app, i) {
  const found = app.cards.get(i), c = found?.card, file = app.info.names[i];
  const box = make('input', {
    type: 'checkbox',
    checked: !!app.selected[i],
    'aria-label': `select ${file}`,
    onchange: () => app.choose([i], box.checked ? 'add' : 'without', true),
  });
  const picture = found?.url ? make('img', { src: found.url, alt: '' }) : make('span', { className: 'none' });
  const show = button('', () => app.go(i, false), { className: 'find', 'aria-label': `show ${file} on the map` });
  show.append(picture);
  const label = app.info.groups.label[app.codes.label[i]], taken = app.info.groups.prediction[app.codes.prediction[i]];
  const near = app.nearness?.get(i), what = app.decided.get(i);
  const p = c ? ` ${Math.round(100 * c.probability)}%` : '';
  const about = make(
    'td',
    { className: 'about' },
    make('b', { textContent: label || 'no label yet', dir: 'auto' }),
    make('span', { className: 'file', textContent: file, title: file }),
    make('span', { className: taken === label ? 'same' : 'other' }, 'model: ', make('bdi', { textContent: taken }), p),
    near && make('span', { className: 'near', textContent: near }),
    ...(c?.reasons || []).slice(0, 2).map((o) => make('span', { className: 'why', textContent: o })),
    make('span', { className: 'word', textContent: c?.gone ? 'not there any more' : inWords(what) }),
    c?.kept && !what ? make('span', { className: 'why', textContent: '✓ kept in an earlier round' }) : null,
  );
  const more = button('more like this', () => app.ask('more', { id: i }), { 'aria-label': `more like ${file}` });
  const state = what === KEEP ? 'keep' : what === DELETE ? 'delete' : what ? 'move' : '';
  const e = make('tr', {}, make('td', {}, box), make('td', {}, show), about, make('td', {}, more));
  Object.assign(e.dataset, { id: i, state });
  e.addEventListener('click', (o) => o.target.closest('input, button') || app.go(i, false));
  e.setAttribute('aria-current', `${app.at === i}`);
  return e;
}

const listWords = (app) => app.chosen ? `${count(app.chosen)} selected` : `All ${count(app.n)}, the most suspect first`;

function table(app) {
  const pages = Math.max(1, Math.ceil(app.list.length / ROWS));
  app.page = Math.min(Math.max(app.page, 0), pages - 1);
  const ids = [...app.list].slice(app.page * ROWS, (app.page + 1) * ROWS);
  const turn = (by) => () => {
    app.page += by;
    table(app);
    app.head.querySelectorAll('button')[by < 0 ? 0 : 1].focus();
  };
  app.head.replaceChildren(
    make('b', { textContent: listWords(app) }),
    button('‹', turn(-1), { disabled: !app.page, 'aria-label': 'page before' }),
    make('span', { textContent: `page ${app.page + 1} of ${pages}` }),
    button('›', turn(1), { disabled: app.page + 1 >= pages, 'aria-label': 'next page' }),
  );
  app.rows.replaceChildren(...ids.map((i) => row(app, i)));
  app.scroll.scrollTop = 0;
  app.want(ids, 'table');
}

// What can be done with the selected photos, or with the one that was found
function actions(app) {
  const ids = app.about(), n = ids.length, like = app.like;
  const word = n ? `${app.chosen ? 'Selected' : 'This one'}: ${app.chosen ? count(n) : app.info.names[ids[0]]}` : '';
  const menu = make('select', { 'aria-label': 'class for the selected photos', disabled: !n });
  menu.append(choice('', 'class …'), ...app.info.classes.map((o, i) => choice(o, i < 9 ? `${i + 1}  ${o}` : o)));
  menu.append(choice('+', 'a new class …'));
  menu.onchange = () => {
    if (menu.value !== '+') return menu.value && app.decide(menu.value);
    const input = make('input', { placeholder: 'name, then Enter', 'aria-label': 'name of a new class' });
    input.onkeydown = (e) => {
      if (e.key === 'Enter' && input.value.trim()) app.decide(input.value.trim());
      if (e.key === 'Escape') actions(app);
    };
    menu.replaceWith(input);
    input.focus();
  };
  const label = like >= 0 && app.info.groups.label[app.codes.label[like]];
  const meant = like >= 0 && (app.decided.get(like) ?? KEEP), as = meant === KEEP ? label : meant;
  const alike = app.chosen && like >= 0 && as &&
    button(`Like that one (${as === DELETE ? '✕ delete' : as})`, () => app.decide(LIKE), { className: 'hint' });
  const open = ids.some((i) => app.decided.has(i));
  app.bar.replaceChildren(
    make('span', { className: 'which' }, n ? word : 'Draw a line around some photos, or tick them in the table.'),
    ...[
      alike,
      button('Keep', () => app.decide(KEEP), { disabled: !n }),
      button('Delete', () => app.decide(DELETE), { disabled: !n }),
      menu,
      open && button('Decide nothing', () => app.ask('drop_many', { ids })),
      app.chosen && button('Select none', () => app.choose([])),
    ].filter(Boolean),
  );
  const k = app.info.pending, next = !k && app.info.turns > 1;
  app.foot.replaceChildren(
    button(`Take the last back (${app.info.back})`, () => app.ask('take_back'), { disabled: !app.info.back }),
    button(k ? `Apply ${count(k, 'decision')}` : next ? 'Next round' : 'Nothing to apply', () => app.work('apply'), {
      disabled: !k && !next,
      className: 'apply',
    }),
    button('Undo the last apply', () => app.work('undo')),
    button('Keys', () => app.legend.hidden = !app.legend.hidden),
  );
}

// The photo under the hand, larger
function tip(app) {
  const i = app.hover, found = app.cards.get(i);
  app.tip.hidden = i < 0;
  if (i < 0) return;
  const label = app.info.groups.label[app.codes.label[i]], taken = app.info.groups.prediction[app.codes.prediction[i]];
  app.tip.replaceChildren(
    found?.url ? make('img', { src: found.url, alt: '' }) : make('div', { className: 'none', textContent: '…' }),
    make('b', { textContent: label || 'no label yet', dir: 'auto' }),
    make('span', {}, 'model: ', make('bdi', { textContent: taken })),
    make('span', { className: 'file', textContent: app.info.names[i] }),
  );
  const x = app.px[2 * i], y = app.px[2 * i + 1], right = x < app.w / 2, low = y < app.h / 2;
  Object.assign(app.tip.style, {
    left: right ? `${x + 16}px` : '',
    right: right ? '' : `${app.w - x + 16}px`,
    top: low ? `${Math.max(4, y - 20)}px` : '',
    bottom: low ? '' : `${Math.max(4, app.h - y - 20)}px`,
  });
}

function newApp(model, el) {
  const app = {
    el,
    model,
    view: Math.random(),
    info: { classes: [], names: [], groups: {}, back: 0, pending: 0 },
    n: 0,
    at: -1,
    hover: -1,
    by: 'label',
    only: null,
    tool: 'lasso',
    chosen: 0,
    ids: [],
    list: [],
    page: 0,
    like: -1,
    cards: new Map(),
    decided: new Map(),
    zoom: { k: 1, x: 0, y: 0 },
    path: null,
    w: 0,
    h: 0,
    frames: 0,
  };
  app.ask = (what, more = {}) => model.send({ do: what, view: app.view, round: app.info.round, ...more });
  app.redraw = (upper = false) => {
    app.all = app.all || !upper;
    if (app.frame) return;
    app.frame = requestAnimationFrame(() => {
      const all = app.all;
      app.frame = app.all = null;
      app.frames++;
      all ? draw(app) : over(app);
    });
  };
  app.about = () => app.chosen ? app.ids : app.at >= 0 ? [app.at] : [];
  app.want = (ids, want) => {
    const some = ids.filter((i) => !app.cards.has(i));
    if (some.length) app.ask('cards', { ids: some, want });
  };
  app.point = (i) => {
    if (i === app.hover) return;
    app.hover = i;
    clearTimeout(app.soon);
    if (i >= 0) app.soon = setTimeout(() => app.want([i], 'tip'), 40);
    tip(app);
    app.redraw(true);
  };
  app.choose = (ids, how = '', stay = false) => {
    if (!stay) app.say('');
    if (!how) app.selected.fill(0);
    for (const i of ids) app.selected[i] = how === 'without' ? 0 : 1;
    app.listed(stay);
  };
  // With `stay` the table keeps what it shows, as where a person ticks one photo after the other
  app.listed = (stay = false) => {
    app.ids = [...app.selected.keys()].filter((i) => app.selected[i]);
    app.chosen = app.ids.length;
    if (!stay) {
      Object.assign(app, { like: -1, page: 0, nearness: null, list: app.chosen ? app.ids : [...Array(app.n).keys()] });
      table(app);
    } else app.head.querySelector('b').textContent = listWords(app);
    actions(app);
    app.redraw();
  };
  return app;
}

// What the buttons, keys and rows do
function does(app) {
  const { el } = app;
  // Find a photo on the map, and in the table
  app.go = (i, turn = true) => {
    if (i < 0 || i >= app.n) return;
    const was = app.at;
    app.at = i;
    if (turn) {
      if (!app.list.includes(i)) app.choose([]);
      const page = Math.floor(app.list.indexOf(i) / ROWS);
      if (page !== app.page) {
        app.page = page;
        table(app);
      }
    }
    for (const o of app.rows.children) o.setAttribute('aria-current', `${+o.dataset.id === i}`);
    const found = app.rows.querySelector('[aria-current=true]'), box = app.scroll;
    if (turn && found) box.scrollTop = found.offsetTop - box.clientHeight / 3;
    const label = app.info.groups.label[app.codes.label[i]],
      taken = app.info.groups.prediction[app.codes.prediction[i]];
    const words = [app.info.names[i], label || 'no label yet', `model: ${taken}`, inWords(app.decided.get(i))];
    app.live.textContent = words.filter(Boolean).join(', ');
    if (was !== i) actions(app);
    const x = app.px[2 * i], y = app.px[2 * i + 1];
    if (x < 0 || y < 0 || x > app.w || y > app.h) {
      Object.assign(app.zoom, { x: app.zoom.x + app.w / 2 - x, y: app.zoom.y + app.h / 2 - y });
    }
    app.redraw();
  };
  app.click = (i, add) => {
    if (i < 0) return add || app.choose([]);
    if (add) app.choose([i], app.selected[i] ? 'without' : 'add');
    app.go(i);
  };
  app.zoomBy = (f, x = app.w / 2, y = app.h / 2) => {
    const { zoom } = app, k = f ? Math.min(40, Math.max(1, zoom.k * f)) : 1, g = k / zoom.k;
    const stay = (o, c, half) => k === 1 ? 0 : c - half - (c - half - o) * g;
    app.zoom = { k, x: stay(zoom.x, x, app.w / 2), y: stay(zoom.y, y, app.h / 2) };
    app.redraw();
  };
  app.decide = (what) => {
    const ids = app.about();
    if (!ids.length) return;
    app.saying = count(ids.length);
    app.ask('decide_many', { ids, what, ...(what === LIKE ? { like: app.like } : {}) });
  };
  app.work = (what) => {
    app.say(what === 'apply' ? 'Moving the photos, and judging all anew …' : 'Putting the photos back …');
    el.classList.add('busy');
    app.ask(what);
  };
  app.say = (text) => app.said.textContent = text;
}

// The better map comes when it is made, and the points go where they belong
function move(app, to) {
  const from = app.xy, still = matchMedia('(prefers-reduced-motion: reduce)').matches, start = performance.now();
  const between = new Float32Array(from.length);
  const step = (now) => {
    if (app.moving !== to) return;
    const t = still ? 1 : Math.min(1, (now - start) / 700), s = t * t * (3 - 2 * t);
    for (let i = 0; i < to.length; i++) between[i] = from[i] + s * (to[i] - from[i]);
    app.xy = t < 1 ? between : to;
    draw(app);
    if (t < 1) requestAnimationFrame(step);
    else app.el.dataset.map = 'done';
  };
  app.moving = to;
  requestAnimationFrame(step);
}

function decided(app, msg) {
  Object.assign(app.info, { back: msg.back, pending: msg.pending, classes: msg.classes });
  app.decided = new Map(msg.decided);
  for (const [i, o] of app.cards) if (o.card) o.card.decision = app.decided.get(i) || '';
  for (const e of app.rows.children) {
    const what = app.decided.get(+e.dataset.id);
    e.dataset.state = what === KEEP ? 'keep' : what === DELETE ? 'delete' : what ? 'move' : '';
    e.querySelector('.word').textContent = inWords(what);
  }
  if (app.by === 'decision') colours(app);
  actions(app);
  app.redraw();
}

// It hears what Python says
function hear(app, msg, buffers) {
  const mine = msg.view === undefined || msg.view === app.view, current = msg.round === app.info.round;
  const numbers = (i, type) =>
    new type(buffers[i].buffer.slice(buffers[i].byteOffset, buffers[i].byteOffset + buffers[i].byteLength));
  if (msg.kind === 'map' && mine) {
    app.cards.forEach((o) => o.url && URL.revokeObjectURL(o.url));
    const n = msg.total;
    Object.assign(app, { info: msg, n, at: -1, hover: -1, only: null, cards: new Map(), moving: null });
    app.xy = numbers(0, Float32Array);
    app.codes = { label: numbers(1, Uint16Array), prediction: numbers(2, Uint16Array), split: numbers(3, Uint16Array) };
    app.score = numbers(4, Float32Array);
    Object.assign(app, { px: new Float32Array(2 * n), selected: new Uint8Array(n) });
    if (app.said.textContent === WAITING) app.say('');
    app.el.dataset.map = 'quick';
    app.el.classList.remove('busy');
    const aside = msg.aside
      ? ` ${count(msg.aside)} kept aside in this round ${msg.aside === 1 ? 'is' : 'are'} not shown.`
      : '';
    app.what.textContent = `${count(n)} of ${msg.folder}.${aside}`;
    app.trust.textContent = 'A first picture; a better one is being made …';
    decided(app, msg);
    colours(app);
    app.listed();
  }
  if (msg.kind === 'places' && current) {
    app.trust.textContent = msg.text;
    move(app, numbers(0, Float32Array));
  }
  if (msg.kind === 'decided' && current) {
    decided(app, msg);
    if (app.saying) app.say(`Decided about ${app.saying}; it is written down, and nothing has moved yet.`);
    app.saying = '';
  }
  if (msg.kind === 'cards' && mine && current) {
    msg.cards.forEach((card, k) => {
      const b = buffers[k], url = b.byteLength ? URL.createObjectURL(new Blob([b], { type: 'image/jpeg' })) : null;
      app.cards.set(card.id, { card, url });
      const old = app.rows.querySelector(`[data-id="${card.id}"]`);
      const fields = old ? [...old.querySelectorAll('input, button')] : [],
        held = fields.findIndex((o) => o === document.activeElement);
      if (!old) return;
      const fresh = row(app, card.id);
      old.replaceWith(fresh);
      if (held >= 0) fresh.querySelectorAll('input, button')[held]?.focus();
    });
    if (app.hover >= 0) tip(app);
    for (const [i, o] of app.cards) { // as many as a person may come back to
      if (app.cards.size <= 500) break;
      if (i === app.hover || app.rows.querySelector(`[data-id="${i}"]`)) continue;
      if (o.url) URL.revokeObjectURL(o.url);
      app.cards.delete(i);
    }
  }
  if (msg.kind === 'more' && mine && current) {
    app.choose(msg.ids);
    Object.assign(app, {
      like: msg.id,
      at: msg.id,
      list: msg.ids,
      nearness: new Map(msg.ids.map((o, i) => [o, msg.nearness[i]])),
    });
    table(app);
    actions(app);
    app.say(`The ${msg.ids.length} photos nearest to ${app.info.names[msg.id]}, by all that the model sees.`);
    app.redraw();
  }
  if (msg.kind === 'problem' && mine) {
    app.say(msg.text);
    app.el.classList.remove('busy');
    app.saying = '';
  }
  if (msg.kind === 'error') app.error.textContent = `${msg.of ? msg.wrong : ''}${msg.text}`;
  if (msg.kind === 'said' && msg.text) app.say(msg.text);
  if (msg.kind === 'done') {
    app.say(msg.text);
    if (msg.again) app.ask('map');
  }
  if (msg.kind === 'large' && mine && buffers[0]?.byteLength) {
    const url = URL.createObjectURL(new Blob([buffers[0]], { type: 'image/jpeg' }));
    app.big.replaceChildren(make('img', { src: url, alt: msg.file }), make('p', { textContent: msg.file }));
    app.big.onclose = () => URL.revokeObjectURL(url);
    app.big.showModal();
  }
}

// The places of the page
function parts(app) {
  const part = (name, tag = 'div', more = {}) => app[name] = make(tag, { className: name, ...more });
  part('error', 'p', { role: 'status' });
  part('said', 'p', { role: 'status' });
  part('live', 'p', { 'aria-live': 'polite' });
  part('legend', 'dl', { hidden: true });
  part('big', 'dialog');
  part('tip', 'div', { hidden: true });
  part('rows', 'tbody');
  for (const o of ['what', 'trust']) part(o, 'p');
  for (const o of ['keys', 'bar', 'foot', 'head', 'scroll']) part(o);
  part('base', 'canvas', { 'aria-hidden': 'true' });
  part('upper', 'canvas', {
    tabIndex: 0,
    role: 'application',
    'aria-label': 'map of the photos; arrow keys lead from one to the next, and the question mark shows the keys',
  });
  app.legend.append(
    ...LEGEND.map(([k, text]) => make('div', {}, make('dt', { textContent: k }), make('dd', { textContent: text }))),
  );
  const tool = button('Move the map', () => {
    app.tool = app.tool === 'move' ? 'lasso' : 'move';
    tool.setAttribute('aria-pressed', `${app.tool === 'move'}`);
    app.upper.dataset.tool = app.tool;
  }, { 'aria-pressed': 'false' });
  const zoom = make(
    'div',
    { className: 'zoom' },
    button('+', () => app.zoomBy(1.5), { 'aria-label': 'nearer' }),
    button('−', () => app.zoomBy(1 / 1.5), { 'aria-label': 'farther' }),
    button('All', () => app.zoomBy(0)),
    tool,
  );
  const titles = ['selected', 'photo', 'about it', 'others'].map((o) => make('th', { scope: 'col', textContent: o }));
  app.scroll.append(make('table', {}, make('thead', {}, make('tr', {}, ...titles)), app.rows));
  app.box = make('div', { className: 'box' }, app.base, app.upper, app.tip);
  app.big.onclick = () => app.big.close();
  app.upper.addEventListener('focus', () => app.at < 0 && app.upper.matches(':focus-visible') && app.go(0, false));
  return [
    app.error,
    app.what,
    app.keys,
    make(
      'div',
      { className: 'two' },
      make('div', { className: 'left' }, app.box, zoom, app.trust),
      make('div', { className: 'right' }, app.bar, app.head, app.scroll),
    ),
    app.foot,
    app.said,
    app.live,
    app.legend,
    app.big,
  ];
}

function render({ model, el }) {
  const app = newApp(model, el);
  el.classList.add('bearclf-clean', 'bearclf-map');
  el.setAttribute('data-lm-suppress-shortcuts', 'true');
  does(app);
  el.replaceChildren(...parts(app));
  hand(app);
  const heard = (msg, buffers) => hear(app, msg, buffers || []);
  model.on('msg:custom', heard);
  el.addEventListener('keydown', (e) => key(app, e));
  const sized = new ResizeObserver(() => {
    const w = app.box.clientWidth, h = app.box.clientHeight, dpr = devicePixelRatio || 1;
    if (!w || !h) return;
    Object.assign(app, { w, h, dpr });
    for (const o of [app.base, app.upper]) Object.assign(o, { width: w * dpr, height: h * dpr });
    draw(app);
  });
  sized.observe(app.box);
  const dark = matchMedia('(prefers-color-scheme: dark)'), again = () => app.redraw();
  dark.addEventListener('change', again);
  app.say(WAITING);
  app.ask('map');
  return () => {
    model.off('msg:custom', heard);
    sized.disconnect();
    dark.removeEventListener('change', again);
    app.cards.forEach((o) => o.url && URL.revokeObjectURL(o.url));
  };
}

export default { render };
