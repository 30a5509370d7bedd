// The page without a server, which `write_site` in nbs/library/ship/26_site.ipynb makes: photos are answered here, one
// after the other, and no computer is asked.

import { photoZone, words } from './photos.js';
import { readPhoto, Refused } from './prepare.js';
import { openModel } from './model.js';

const KEPT = 100; // answers in the list; the oldest go
const WIDE = 480; // longest side in pixels of a picture in the list

const at = (id) => /** @type {any} */ (document.getElementById(id));

// An element; what people wrote, such as a file name, only ever becomes text
function tag(name, attrs = {}, ...kids) {
  const e = Object.assign(document.createElement(name), attrs);
  e.append(...kids.filter((o) => o));
  return e;
}

// As `percent` in bearclf.core, digit for digit
function percent(p) {
  if (p < 0.001) return '<0.1%';
  if (p > 0.999) return '>99.9%';
  return `${(Math.floor(1000 * p + 0.5) / 10).toFixed(1)}%`;
}

const site = {
  data: JSON.parse(at('bearclf-data').textContent),
  t: null, // says a sentence in the language of the page
  queue: [], // files that wait
  cards: [], // what is in the list, newest first
  done: 0,
  working: false,
  left: false, // have cards gone because there were too many?
  state: 'waking', // or '' where the model is ready, or why it is not, as [key, values]
  loading: null, // the promise of a model
  zone: null, // where photos come from
};

// ---- words with elements in them

const strong = (name) => tag('b', { dir: 'auto', textContent: name });

// A sentence in which what stands in braces becomes an element
function rich(key, kids) {
  const marked = Object.keys(kids).map((o) => [o, `\0${o}\0`]);
  return site.t(key, Object.fromEntries(marked)).split('\0').map((o, i) => i % 2 ? kids[o] : o);
}

// A sentence whose values, such as the name of a file, may be written in the other direction
function sentence(key, values) {
  return rich(key, Object.fromEntries(Object.entries(values).map(([k, o]) => [k, tag('bdi', { textContent: o })])));
}

function knows(classes, most = 8) {
  const names = classes.slice(0, most).map(strong), more = classes.length - most;
  const last = more > 0 ? site.t('more_classes', { n: more }) : names.pop();
  if (!names.length) return rich('knows_one', { last });
  const list = tag('span', {}, ...names.flatMap((o, i) => i ? [', ', o] : [o]));
  return rich('knows', { names: list, last });
}

function madeOf({ arch, n_photos, n_valid, n_wrong, error_rate, date }) {
  const { t } = site, count = (n) => n.toLocaleString(t.language);
  const rate = (p) => p > 0 && p < 1 ? percent(p) : `${(100 * p).toFixed(1)}%`;
  let aside = n_valid === 0 ? t('aside_none') : '';
  if (n_valid) aside = t('aside_wrong', { wrong: count(n_wrong), n: count(n_valid), rate: rate(n_wrong / n_valid) });
  else if (n_valid === undefined && error_rate !== undefined) aside = t('error_rate', { rate: rate(error_rate) });
  return [arch, n_photos && t('photos', { n: count(n_photos) }), aside, (date || '').slice(0, 10)];
}

// ---- an answer

// As `leading` in bearclf.core
function leading(ranked) {
  if (ranked.length <= 10) return ranked;
  const others = ranked.slice(5).reduce((sum, [, p]) => sum + p, 0);
  return [...ranked.slice(0, 5), [site.t('others', { n: ranked.length - 5 }), others]];
}

function bars(ranked) {
  const row = ([name, p]) => {
    const bar = tag('i'), track = tag('span', { className: 'track', ariaHidden: 'true' }, bar);
    bar.style.width = `${100 * p}%`;
    const share = tag('span', { className: 'share', dir: 'ltr', textContent: percent(p) });
    return tag('li', {}, tag('span', { className: 'name', dir: 'auto', textContent: name }), ' ', share, track);
  };
  return tag('ol', { className: 'bearclf-bars' }, ...leading(ranked).map(row));
}

// What a card says: nothing yet, why there is no answer, or the answer
function said({ name, refused, answer }) {
  const { t } = site, of = tag('p', { className: 'bearclf-of' }, tag('bdi', { textContent: name }));
  if (refused) return [tag('p', { className: 'bearclf-note' }, ...sentence(...refused))];
  if (!answer) {
    const wait = site.state === 'waking' ? t('still_loading') : t('looking');
    return [tag('p', { className: 'bearclf-wait', textContent: wait }), of];
  }
  const { label, probabilities, familiar, sure } = answer;
  if (familiar === false) {
    return [tag('h2', { textContent: t('unlike') }), of, tag('p', {}, ...rich('nearest', { label: strong(label) }))];
  }
  const first = tag('span', { textContent: t(sure ? 'looks_like' : 'perhaps') });
  return [tag('h2', {}, first, ' ', strong(label)), of, bars(probabilities)];
}

// The same in one short sentence, for a screen reader
function aloud({ name, refused, answer }) {
  const { t } = site;
  if (refused) return t(...refused);
  const { label, probability, familiar, sure } = answer;
  if (familiar === false) return `${name}: ${t('unlike')}. ${t('nearest', { label })}`;
  return `${name}: ${t(sure ? 'looks_like' : 'perhaps')} ${label}, ${percent(probability)}.`;
}

function draw(card) {
  const { name, src, refused } = card;
  if (src) card.img = Object.assign(card.img || tag('img', { src }), { alt: site.t('photo_alt', { name }) });
  card.node.className = refused ? 'bearclf-refused' : '';
  card.node.replaceChildren(...(src ? [card.img] : []), tag('div', {}, ...said(card)));
}

// ---- the page around the answers

function drawState() {
  const { t, state, cards, queue, done, working } = site, all = done + queue.length + 1;
  const failed = Array.isArray(state);
  at('state').hidden = !state || cards.length > 0 && !failed;
  at('state').className = failed ? 'bearclf-note' : 'bearclf-wait';
  at('state').textContent = failed ? t(...state) : t('waking');
  at('count').hidden = !working || all < 2;
  at('count').firstElementChild.textContent = t('done_of', { n: done + 1, of: all });
  Object.assign(at('count').lastElementChild, { max: all, value: done, ariaLabel: t('answers') });
  at('empty').hidden = cards.length > 0 || failed;
  at('clear').hidden = !cards.length;
  at('kept').hidden = !site.left;
  document.body.toggleAttribute('data-some', cards.length > 0);
}

function drawFoot() {
  const { t, data } = site, line = (...said) => tag('p', { textContent: said.filter((o) => o).join(' ') });
  const facts = madeOf(data.facts).filter((o) => o).join(' · ');
  at('foot').replaceChildren(
    line(t('can_be_wrong')),
    line(t('stays_here'), t('works_offline')),
    ...(facts ? [line(facts)] : []),
  );
  at('licences').textContent = t('licences');
}

function drawLanguages() {
  const { t, data } = site, [label, menu] = at('language').children;
  const all = Object.entries(data.texts).map(([value, o]) =>
    tag('option', { value, textContent: o.language_name, lang: value })
  );
  label.textContent = t('language');
  menu.replaceChildren(...all);
  menu.value = t.language;
  at('language').hidden = all.length < 2;
}

// Everything, in the language that stands behind # in the address, or that the browser prefers
function drawAll() {
  const { data } = site, t = site.t = words(data.texts, [location.hash.slice(1), ...navigator.languages]);
  Object.assign(document.documentElement, { lang: t.language, dir: t.dir });
  document.title = at('title').textContent = data.title || t('title');
  at('said').textContent = '';
  at('knows').replaceChildren(...knows(data.facts.classes));
  at('answers').ariaLabel = t('answers');
  at('empty').firstElementChild.textContent = t('hint_many');
  at('clear').textContent = t('clear');
  at('kept').textContent = t('only_newest', { n: KEPT });
  drawLanguages();
  drawZone();
  drawFoot();
  site.cards.forEach(draw);
  drawState();
}

function drawZone() {
  const { t, data } = site, fresh = tag('div', { id: 'zone' });
  if (site.zone) site.zone.close();
  at('zone').replaceWith(fresh);
  site.zone = photoZone(fresh, { t, examples: data.examples, many: true, area: document.body, take });
}

// ---- one photo after the other

// A small picture of the pixels of a photo, as an address; the browser makes it smooth where it is much smaller
async function preview({ width, height, data }) {
  const by = Math.max(1, Math.floor(Math.max(width, height) / WIDE / 2)),
    k = Math.min(1, WIDE / Math.max(width, height));
  const few = new ImageData(Math.ceil(width / by), Math.ceil(height / by));
  for (let y = 0, i = 0; y < height; y += by) {
    for (let x = 0; x < width; x += by, i += 4) {
      const j = 3 * (y * width + x);
      few.data[i] = data[j], few.data[i + 1] = data[j + 1], few.data[i + 2] = data[j + 2], few.data[i + 3] = 255;
    }
  }
  const canvas = (width, height) => tag('canvas', { width, height });
  const large = canvas(few.width, few.height), small = canvas(Math.ceil(width * k), Math.ceil(height * k));
  large.getContext('2d').putImageData(few, 0, 0);
  const g = small.getContext('2d');
  g.imageSmoothingQuality = 'high';
  g.drawImage(large, 0, 0, small.width, small.height);
  return URL.createObjectURL(await new Promise((made) => small.toBlob(made, 'image/jpeg', 0.85)));
}

// The oldest card goes, with its picture
function drop() {
  const card = site.cards.pop();
  card.gone = true;
  card.node.remove();
  URL.revokeObjectURL(card.src);
}

function begin(file) {
  const card = { name: file.name, node: tag('li'), src: '', refused: null, answer: null };
  site.cards.unshift(card);
  at('list').prepend(card.node);
  if (site.cards.length > KEPT) {
    site.left = true;
    drop();
  }
  draw(card);
  return card;
}

async function look(card, file) {
  try {
    const pixels = await readPhoto(file);
    card.src = await preview(pixels);
    draw(card);
    const model = await site.loading;
    draw(card);
    card.answer = await model.answer(pixels);
  } catch (e) {
    if (e instanceof Refused) card.refused = [e.code, { name: file.name, ...e.values }];
    else card.refused = site.state ? ['not_loaded', {}] : ['went_wrong', { what: e.message || String(e) }];
  }
  if (card.gone) return URL.revokeObjectURL(card.src);
  draw(card);
  at('said').textContent = aloud(card);
}

async function work() {
  if (site.working) return;
  site.working = true;
  for (site.done = 0; site.queue.length; site.done++) {
    const file = site.queue.shift(), card = begin(file);
    drawState();
    await new Promise((next) => setTimeout(next)); // the page is painted, and hears what was pressed
    await look(card, file);
    if (!site.done) card.node.scrollIntoView({ block: 'nearest' });
  }
  site.working = false;
  drawState();
}

function take(files) {
  site.queue.push(...files);
  work();
}

function clear() {
  site.queue.length = 0;
  while (site.cards.length) drop();
  site.left = false;
  at('said').textContent = '';
  drawState();
  at('zone').querySelector('input').focus();
}

// ---- the model

const fromBase64 = (s) =>
  Uint8Array.fromBase64 ? Uint8Array.fromBase64(s) : Uint8Array.from(atob(s), (o) => o.charCodeAt(0));

// A part of the page, in the pieces in which it stands there, or what lies beside it
async function partOf(name) {
  const { files } = site.data, held = [...document.querySelectorAll(`.bearclf-${name}`)];
  if (!files) {
    if (!held.length) throw new Error(name);
    const part = new Blob(held.map((o) => fromBase64(o.textContent)));
    held.forEach((o) => o.remove());
    return part;
  }
  const got = await Promise.all([files[name]].flat().map((o) => fetch(o)));
  if (!got.every((o) => o.ok)) throw new Error(got.find((o) => !o.ok).url);
  return new Blob(await Promise.all(got.map((o) => o.blob())));
}

// The same as bytes, unpacked if it begins as gzip does
async function bytesOf(name) {
  const part = await partOf(name), [a, b] = new Uint8Array(await part.slice(0, 2).arrayBuffer());
  const whole = a === 0x1f && b === 0x8b ? part.stream().pipeThrough(new DecompressionStream('gzip')) : part.stream();
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

async function load() {
  const [code, wasm, model] = await Promise.all(['ort', 'wasm', 'model'].map(bytesOf)).catch((e) => {
    throw Object.assign(e, { said: ['damaged_page', {}] });
  });
  const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const opened = await openModel(await import(url), wasm, model, site.data.facts);
  URL.revokeObjectURL(url);
  return opened;
}

// The page is drawn, in the visitor's language, while its long parts are still being read
async function allHere() {
  if (document.readyState === 'loading') {
    await new Promise((done) => addEventListener('DOMContentLoaded', done, { once: true }));
  }
}

async function start() {
  drawAll();
  addEventListener('hashchange', drawAll);
  at('language').lastElementChild.addEventListener('change', (e) => location.replace(`#${e.target.value}`));
  at('clear').addEventListener('click', clear);
  if (site.data.worker && navigator.serviceWorker) navigator.serviceWorker.register(site.data.worker).catch(() => null);
  site.loading = allHere().then(load);
  try {
    await site.loading;
    site.state = '';
  } catch (e) {
    site.state = e.said || ['cannot_start', { what: e.message || String(e) }];
  }
  document.documentElement.dataset.ready = site.state ? 'no' : 'yes';
  drawState();
}

start();
