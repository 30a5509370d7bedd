// The browser's half of `CleaningView`, in nbs/library/clean/21_loop.ipynb: a page of cards. Python holds everything,
// and `app` is what the pieces here share.

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
// As `percent` in bearclf.core, digit for digit
export function percent(p) {
  if (p < 0.001) return '<0.1%';
  if (p > 0.999) return '>99.9%';
  return `${(Math.floor(1000 * p + 0.5) / 10).toFixed(1)}%`;
}
const button = (text, onclick, more = {}) => make('button', { type: 'button', textContent: text, onclick, ...more });
const choice = (value, text) => make('option', { value, textContent: text });

const KEEP = '<Keep>', DELETE = '<Delete>';
// What a card says, in words, and what its border says by its colour
function state(c) {
  if (c.gone) return ['gone', 'not there any more'];
  if (c.failed) return ['failed', c.failed];
  if (c.waiting) return ['waiting', 'saving …'];
  if (c.decision === KEEP) return ['keep', '✓ keep'];
  if (c.decision === DELETE) return ['delete', '✕ delete'];
  if (c.decision) return ['move', `→ ${c.decision}`];
  return c.kept ? ['kept', '✓ kept in an earlier round'] : ['', ''];
}

const inWords = (what) => what === DELETE ? 'delete' : what === KEEP ? 'keep' : `move to ${what}`;

// The menu of classes, which turns into a place to write a new one
function chooser(c, app) {
  const numbered = app.info.classes.map((o, i) => [o, i < 9 ? `${i + 1}  ${o}` : o]);
  const select = make('select', { 'aria-label': `another class for ${c.file}` }, choice('', 'class …'));
  select.append(
    ...numbered.filter(([o]) => o !== c.label).map(([value, text]) => choice(value, text)),
    choice('+', 'a new class …'),
  );
  select.onchange = () => {
    if (select.value !== '+') {
      if (select.value) app.decide(c, select.value);
      return;
    }
    const input = make('input', { placeholder: 'name, then Enter', 'aria-label': 'name of a new class' });
    input.onkeydown = (e) => {
      if (e.key === 'Enter' && input.value.trim()) app.decide(c, input.value.trim());
      if (e.key === 'Escape') {
        input.replaceWith(select);
        select.value = '';
        select.focus();
      }
    };
    select.replaceWith(input);
    input.focus();
  };
  return select;
}

function card(c, url, app) {
  const picture = url
    ? make('img', {
      src: url,
      alt: c.file,
      title: 'click for a larger one',
      onclick: () => app.ask('large', { id: c.id }),
    })
    : make('span', { className: 'none', textContent: 'no picture' });
  const loss = c.loss === null ? '' : `, loss ${c.loss.toFixed(2)}`;
  const bar = make('i', { style: `width:${100 * c.probability}%` });
  const model = make(
    'p',
    { className: 'model', title: 'by a model whose head has not learned from this photo' },
    make('span', { textContent: 'model: ' }),
    make('b', { textContent: c.prediction, dir: 'auto' }),
    make('span', { textContent: ` ${percent(c.probability)}${loss}` }),
    make('span', { className: 'bar' }, bar),
  );
  const why = make('ul', { className: 'why' }, ...c.reasons.map((o) => make('li', { textContent: o })));
  const marks = { [KEEP]: 'Keep', [DELETE]: 'Delete' }, hint = c.suggestion;
  const buttons = Object.keys(marks).map((o) =>
    button(marks[o], () => app.decide(c, o), { className: o === hint ? 'hint' : '' })
  );
  if (hint && !marks[hint]) buttons.unshift(button(`→ ${hint}`, () => app.decide(c, hint), { className: 'hint' }));
  c.word = make('p', { className: 'word' });
  c.el = make(
    'article',
    { tabIndex: -1, 'aria-label': `${c.file}, ${c.label}`, onfocus: () => app.at = c },
    make('div', { className: 'picture' }, picture),
    make(
      'p',
      { className: 'label' },
      make('b', { textContent: c.label || 'no label yet', dir: 'auto' }),
      make('span', { className: 'file', textContent: c.file, title: c.file }),
    ),
    model,
    why,
    c.word,
    make('div', { className: 'buttons' }, ...buttons, chooser(c, app)),
  );
  c.show = () => {
    const [name, text] = state(c);
    c.el.dataset.state = name;
    c.word.textContent = text;
  };
  c.show();
  return c.el;
}

function filters(app) {
  const { info, filter } = app, set = (key, value) => app.turn(0, { [key]: value });
  const menu = (name, key, all, options) => {
    const select = make('select', {
      'aria-label': name,
      onchange: () => set(key, select.value === '*' ? null : select.value),
    });
    select.append(choice('*', all), ...options.map(([value, text]) => choice(value, text)));
    select.value = filter[key] ?? '*';
    return select;
  };
  const parts = { train: 'training', valid: 'validation' };
  const box = make('input', {
    type: 'checkbox',
    checked: !!filter.undecided,
    onchange: () => set('undecided', box.checked),
  });
  const cell = filter.cell &&
    button(`${filter.cell[0]}, taken for ${filter.cell[1]} ✕`, () => set('cell', null), { className: 'cell' });
  return [
    menu('class', 'label', 'all classes', info.labels.map((o) => [o, o || 'no label yet'])),
    menu('part', 'split', 'training and validation', info.splits.map((o) => [o, parts[o]])),
    menu('reason', 'kind', 'any reason', info.kinds.map(([k, n]) => [k, `${k} (${n})`])),
    menu('order', 'order', 'most suspect first', [['surest', 'surest first'], ['least sure', 'least sure first']]),
    make('label', {}, box, ' undecided only'),
    cell,
  ];
}

function pager(app) {
  const { n, page, pages } = app.info;
  return [
    button('‹', () => app.turn(page - 1), { disabled: page === 0, 'aria-label': 'page before' }),
    make('span', { textContent: `${n.toLocaleString('en')} photo${n === 1 ? '' : 's'}, page ${page + 1} of ${pages}` }),
    button('›', () => app.turn(page + 1), { disabled: page + 1 >= pages, 'aria-label': 'next page' }),
  ];
}

// How the error went with every decision
function curve(points) {
  const svg = (tag, attrs) => {
    const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const k in attrs) e.setAttribute(k, attrs[k]);
    return e;
  };
  const top = Math.max(1, ...points.map((o) => o[1])), w = 220, h = 44, n = Math.max(1, points.length - 1);
  const at = points.map((o, i) => [4 + (w - 8) * i / n, 4 + (h - 8) * (1 - o[1] / top)]);
  const e = svg('svg', {
    viewBox: `0 0 ${w} ${h}`,
    class: 'curve',
    role: 'img',
    'aria-label': `wrong: ${points.map((o) => o[1]).join(', ')}`,
  });
  e.append(
    svg('polyline', {
      points: at.map((o) => o.join()).join(' '),
      fill: 'none',
      stroke: 'currentColor',
      'stroke-width': 2,
    }),
    svg('circle', { cx: at[at.length - 1][0], cy: at[at.length - 1][1], r: 4, fill: 'currentColor' }),
  );
  return e;
}

// How many of the photos kept aside are wrong, in the words of Python
function errorLine(o) {
  if (!o.of) return [make('span', { textContent: o.text })];
  return [
    make('b', { className: 'wrong', textContent: o.wrong }),
    make('span', { textContent: o.text }),
    curve(o.curve),
  ];
}

// The confusion matrix, made of buttons
function matrix(app) {
  const { cells } = app.info, names = [...new Set(cells.flatMap((o) => [o[0], o[1]]))].sort();
  const count = (a, b) => (cells.find((o) => o[0] === a && o[1] === b) || [0, 0, 0])[2];
  const head = make(
    'tr',
    {},
    make('th', { textContent: 'label ↓  model →' }),
    ...names.map((o) => make('th', { textContent: o, dir: 'auto' })),
  );
  const cell = (a, b) =>
    make(
      'td',
      { className: a === b ? 'same' : '' },
      count(a, b)
        ? button(count(a, b), () => app.turn(0, { cell: [a, b] }), {
          'aria-label': `${count(a, b)} of ${a}, taken for ${b}`,
        })
        : '0',
    );
  return make(
    'table',
    { className: 'matrix' },
    head,
    ...names.map((a) => make('tr', {}, make('th', { textContent: a, dir: 'auto' }), ...names.map((b) => cell(a, b)))),
  );
}

// Suggestions are shown before they are accepted; a click on one leaves it out
function acceptPanel(app) {
  const out = make('output', { textContent: '0.75' });
  const range = make('input', {
    type: 'range',
    min: 0.3,
    max: 1,
    step: 0.01,
    value: 0.75,
    'aria-label': 'lowest score',
    oninput: () => out.textContent = (+range.value).toFixed(2),
  });
  app.sheet = make('div', { className: 'sheet' });
  return make(
    'details',
    { className: 'accept' },
    make('summary', { textContent: 'Accept suggestions' }),
    make(
      'p',
      {},
      'with a score of at least ',
      range,
      ' ',
      out,
      ' ',
      button('Show them', () => app.ask('suggested', { threshold: +range.value })),
    ),
    app.sheet,
  );
}

function sheet(app, msg, urls) {
  const without = new Set(), close = () => app.sheet.replaceChildren();
  const label = () => `Accept ${msg.cards.length - without.size}`;
  const go = button(label(), () => {
    app.ask('accept', { ids: msg.cards.map((c) => c.id).filter((o) => !without.has(o)), threshold: msg.threshold });
    close();
  }, { className: 'hint' });
  const small = msg.cards.map((c, i) => {
    const e = button('', () => {
      without.has(c.id) ? without.delete(c.id) : without.add(c.id);
      e.classList.toggle('out');
      go.textContent = label();
    }, { title: c.file, className: 'small' });
    e.append(
      make('img', { src: urls[i] || '', alt: c.file }),
      make('span', { textContent: `${c.label}: ${inWords(c.suggestion)}` }),
    );
    return e;
  });
  const words = !msg.n
    ? 'There is no such suggestion left.'
    : msg.n > msg.cards.length
    ? `The first ${msg.cards.length} of ${msg.n}. Click on those to leave out.`
    : 'Click on those to leave out.';
  app.sheet.replaceChildren(
    make('p', { textContent: words }),
    make('div', { className: 'smalls' }, ...small),
    make('p', {}, ...(msg.n ? [go, button('Cancel', close)] : [])),
  );
}

const LEGEND = [
  ['→ or l', 'next'],
  ['← or j', 'before'],
  ['↑ ↓', 'row'],
  ['Enter', 'as suggested, or keep'],
  ['Space', 'keep'],
  ['d', 'delete'],
  ['1 … 9', 'class'],
  ['c', 'choose a class'],
  ['u', 'take back'],
  ['n, p', 'page'],
  ['z', 'larger'],
  ['?', 'these keys'],
];

// All keys are taken while a card has the focus; none is passed on to Jupyter, where `d d` deletes a cell
function key(app, e) {
  e.stopPropagation();
  if (['INPUT', 'SELECT', 'SUMMARY'].includes(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.target.tagName === 'BUTTON' && (e.key === 'Enter' || e.key === ' ')) return;
  const c = app.at, named = app.info.classes[+e.key - 1];
  const row = Math.max(1, Math.round(app.grid.clientWidth / ((app.info.cards[0]?.el?.offsetWidth || 200) + 10)));
  const keys = {
    ArrowRight: () => app.step(1),
    l: () => app.step(1),
    ArrowLeft: () => app.step(-1),
    j: () => app.step(-1),
    ArrowDown: () => app.step(row),
    ArrowUp: () => app.step(-row),
    n: () => app.turn(app.info.page + 1),
    p: () => app.turn(app.info.page - 1),
    '?': () => app.legend.hidden = !app.legend.hidden,
    Escape: () => app.big.close(),
  };
  const on = {
    Enter: () => app.decide(c, c.suggestion || KEEP),
    ' ': () => app.decide(c, KEEP),
    d: () => app.decide(c, DELETE),
    u: () => app.drop(c),
    z: () => app.ask('large', { id: c.id }),
    c: () => c.el.querySelector('select')?.focus(),
  };
  const f = keys[e.key] || (c && (on[e.key] || (named !== undefined && (() => app.decide(c, named)))));
  if (!f) return;
  f();
  e.preventDefault();
}

// It asks Python; each place in which the widget is shown has a number, so turning a page here does not turn it there
function newApp(model, el) {
  const app = {
    info: { cards: [], classes: [], labels: [], splits: [], kinds: [], cells: [], page: 0, pages: 1, n: 0 },
    filter: {},
    at: null,
    view: Math.random(),
  };
  app.ask = (what, more = {}) => model.send({ do: what, view: app.view, round: app.info.round, ...more });
  app.turn = (page, more = {}) => {
    Object.assign(app.filter, more);
    app.focusNext = !Object.keys(more).length;
    app.ask('page', { filter: app.filter, page });
  };
  app.focus = (c) => {
    if (!c) return;
    app.at = c;
    c.el.focus();
    c.el.scrollIntoView({ block: 'nearest' });
  };
  app.step = (n) => {
    const cards = app.info.cards, i = cards.indexOf(app.at);
    app.focus(cards[Math.min(Math.max(i + n, 0), cards.length - 1)]);
  };
  app.onwards = (c) => {
    const cards = app.info.cards, i = cards.indexOf(c), open = (o) => !o.decision && !o.waiting && !o.kept && !o.gone;
    app.focus(cards.slice(i + 1).find(open) || cards.slice(0, i).find(open) || c);
  };
  const send = (c, what, more) => {
    c.waiting = true;
    c.failed = '';
    c.show();
    clearTimeout(c.timer);
    c.timer = setTimeout(() => {
      if (!c.waiting) return;
      c.waiting = false;
      c.failed = 'not saved yet: the kernel is busy or gone';
      c.show();
    }, 20000);
    app.ask(what, { id: c.id, ...more });
  };
  app.decide = (c, what) => {
    send(c, 'decide', { what });
    app.onwards(c);
  };
  app.drop = (c) => {
    if (c.decision) send(c, 'drop', {});
  };
  app.work = (what, words) => {
    app.say(words);
    el.classList.add('busy');
    app.ask(what);
  };
  return app;
}

// It hears what Python says
function hear(app, el, msg, urls) {
  const mine = msg.view === undefined || msg.view === app.view;
  const c = app.info.cards.find((o) => o.id === msg.id && msg.round === app.info.round);
  if (msg.kind === 'saved') {
    if (c) {
      c.decision = msg.decision;
      c.waiting = false;
      c.failed = '';
      clearTimeout(c.timer);
      c.show();
    }
    app.info.pending = msg.pending;
    app.footer();
  }
  if (msg.kind === 'problem' && mine) {
    if (c) {
      c.waiting = false;
      c.failed = msg.text;
      clearTimeout(c.timer);
      c.show();
    } else app.say(msg.text);
    el.classList.remove('busy');
  }
  if (msg.kind === 'error') app.error.replaceChildren(...errorLine(msg));
  if (msg.kind === 'done') {
    app.say(msg.text);
    app.sheet.replaceChildren();
    app.turn(msg.again ? 0 : app.info.page);
  }
  if (!mine) return;
  if (msg.kind === 'said') app.say(msg.text && [app.said.textContent, msg.text].filter(Boolean).join('\n'));
  if (msg.kind === 'page') {
    app.show(msg, urls);
    el.classList.remove('busy'); // only now is it known which round this is
  }
  if (msg.kind === 'suggested') sheet(app, msg, urls);
  if (msg.kind === 'large' && urls[0]) {
    app.big.replaceChildren(make('img', { src: urls[0], alt: msg.file }), make('p', { textContent: msg.file }));
    app.big.showModal();
  }
}

// The places of the page, and what fills them
function parts(app) {
  const part = (name, tag = 'div', more = {}) => app[name] = make(tag, { className: name, ...more });
  part('error', 'p', { role: 'status' });
  part('said', 'p', { role: 'status' });
  part('legend', 'dl', { hidden: true });
  part('big', 'dialog');
  for (const o of ['choose', 'top', 'foot', 'grid', 'low']) part(o);
  app.legend.append(
    ...LEGEND.map(([k, text]) => make('div', {}, make('dt', { textContent: k }), make('dd', { textContent: text }))),
  );
  app.cells = make('details', { className: 'cells' }, make('summary', { textContent: 'Confusion matrix' }));
  app.big.onclick = () => app.big.close();
  app.say = (text) => app.said.textContent = text;
  app.footer = () => {
    const n = app.info.pending, next = !n && app.info.turns > 1;
    const apply = () => app.work('apply', n ? 'Moving the photos, and judging all anew …' : 'Judging all anew …');
    app.foot.replaceChildren(
      button(n ? `Apply ${n} decision${n === 1 ? '' : 's'}` : next ? 'Next round' : 'Nothing to apply', apply, {
        disabled: !n && !next,
        className: 'apply',
        title: 'then other photos are kept aside, and those that were are shown',
      }),
      button('Undo the last apply', () => app.work('undo', 'Putting the photos back …')),
      button('Keys', () => app.legend.hidden = !app.legend.hidden),
    );
  };
  app.show = (msg, urls) => {
    app.urls?.forEach((o) => URL.revokeObjectURL(o));
    Object.assign(app, { urls, info: msg, at: null });
    app.choose.replaceChildren(...filters(app).filter(Boolean));
    app.top.replaceChildren(...pager(app));
    app.low.replaceChildren(...pager(app));
    app.grid.replaceChildren(
      ...(msg.cards.length
        ? msg.cards.map((c, i) => card(c, urls[i], app))
        : [make('p', { textContent: 'No photo is left here.' })]),
    );
    app.cells.replaceChildren(app.cells.firstChild, matrix(app));
    app.footer();
    if (app.focusNext) app.focus(msg.cards[0]);
  };
}

function render({ model, el }) {
  const app = newApp(model, el);
  const picture = (o) => o.byteLength ? URL.createObjectURL(new Blob([o], { type: 'image/jpeg' })) : null;
  el.classList.add('bearclf-clean');
  el.setAttribute('data-lm-suppress-shortcuts', 'true');
  parts(app);
  el.replaceChildren(
    app.error,
    app.choose,
    make('div', { className: 'tools' }, app.top, app.foot),
    app.said,
    app.legend,
    acceptPanel(app),
    app.cells,
    app.grid,
    app.low,
    app.big,
  );
  const heard = (msg, buffers) => hear(app, el, msg, (buffers || []).map(picture));
  model.on('msg:custom', heard);
  el.addEventListener('keydown', (e) => key(app, e));
  app.say('Waiting for the kernel …');
  app.ask('start');
  return () => {
    model.off('msg:custom', heard);
    app.urls?.forEach((o) => URL.revokeObjectURL(o));
  };
}

export default { render };
