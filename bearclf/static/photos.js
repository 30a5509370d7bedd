// Where photos come from, for both pages: they are chosen, dropped, pasted, taken with the camera, or are examples.
// `words` picks the language of a page; see nbs/library/ship/23b_texts.ipynb and 24_page.ipynb.

const BEAR = `
<svg class="bearclf-bear" viewBox="0 0 100 92" aria-hidden="true">
  <g fill="#8a5a33">
    <circle cx="22" cy="22" r="17"/><circle cx="78" cy="22" r="17"/><ellipse cx="50" cy="52" rx="43" ry="39"/>
  </g>
  <g fill="#d9a873">
    <circle cx="22" cy="22" r="8"/><circle cx="78" cy="22" r="8"/><ellipse cx="50" cy="66" rx="21" ry="17"/>
  </g>
  <g fill="#2b1a10">
    <circle cx="34" cy="43" r="4.5"/><circle cx="66" cy="43" r="4.5"/><ellipse cx="50" cy="59" rx="7" ry="5"/>
    <path d="M50 62v7m0 0q-5 5-10 1m10-1q5 5 10 1" fill="none" stroke="#2b1a10" stroke-width="2.4"
      stroke-linecap="round"/>
  </g>
</svg>`;

const ZONE = `
<label class="zone">
  <input type="file" accept="image/*">
  <span class="empty">${BEAR}</span>
  <img alt="" hidden>
  <span class="name" dir="auto"></span>
  <span class="ask"><strong></strong> <span></span> <span class="paste"></span></span>
</label>
<p class="said" role="status" dir="auto"></p>
<p class="note" role="alert" dir="auto"></p>
<div class="ways" hidden></div>
<div class="examples" role="group" hidden></div>
<dialog class="bearclf-camera"><video autoplay muted playsinline></video><div></div></dialog>`;

// The sentences of a page in the first of the visitor's languages that it knows: `t('empty', { name: 'a.jpg' })`
function words(texts, languages) {
  const known = languages.flatMap((o) => [o, o.split('-')[0]]).find((o) => Object.hasOwn(texts, o)) || 'en';
  const t = (key, values = {}) => texts[known][key].replace(/\{(\w+)\}/g, (_, o) => values[o]);
  t.language = known;
  t.dir = /^(ar|ckb|dv|fa|he|ps|sd|ug|ur|yi)\b/.test(known) ? 'rtl' : 'ltr';
  return t;
}

// An element with a text, which is never markup
function made(kind, name, text) {
  const o = document.createElement(kind);
  o.className = name;
  o.textContent = text;
  if (kind === 'button') o.setAttribute('type', 'button');
  return o;
}

// The file of an example. What is inside the page is not fetched: the page has promised to ask nobody.
async function exampleFile({ name, src }) {
  const inside = /^data:([^;,]*);base64,(.*)$/s.exec(src);
  if (!inside) return new File([await (await fetch(src)).blob()], name);
  return new File([Uint8Array.from(atob(inside[2]), (o) => o.charCodeAt(0))], name, { type: inside[1] });
}

// Drop and paste, on all of `area`; what is pasted into a field that one types in is left alone
function hear(area, el, t, got, refuse) {
  const over = (on) => (e) => {
    e.preventDefault();
    e.stopPropagation();
    el.classList.toggle('over', on);
  };
  const drop = (e) => {
    over(false)(e);
    const files = [...e.dataTransfer.files];
    if (files.length) got(files, 'dropped');
    else refuse(t('no_file'));
  };
  const paste = (e) => {
    if (e.target.closest?.('input:not([type=file]), textarea, [contenteditable]')) return;
    const files = [...e.clipboardData.files].filter((o) => o.type.startsWith('image/'));
    if (!files.length) return;
    e.preventDefault();
    const named = (o) => new File([o], o.name.replace(/^image\./, `${t('pasted_photo')}.`), { type: o.type });
    got(files.map(named), 'pasted');
  };
  const heard = { dragenter: over(true), dragover: over(true), dragleave: over(false), drop, paste };
  for (const o in heard) area.addEventListener(o, heard[o]);
  return () => {
    for (const o in heard) area.removeEventListener(o, heard[o]);
  };
}

// What the camera sees, as a JPEG that is not mirrored
async function frameOf(video, name) {
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext('2d').drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.95));
  return new File([blob], name, { type: 'image/jpeg' });
}

// A button that opens the camera in a window; it is off again as soon as the window is closed, however that happens
function liveCamera(dialog, t, got, refuse) {
  const open = made('button', 'bearclf-ask', t('use_camera')), video = dialog.querySelector('video');
  const shoot = made('button', 'bearclf-shoot', t('shoot')), cancel = made('button', 'bearclf-ask', t('cancel'));
  const off = () => {
    for (const o of video.srcObject?.getTracks() || []) o.stop();
    video.srcObject = null;
  };
  const on = async () => {
    shoot.disabled = true;
    dialog.showModal();
    const asked = { video: { facingMode: 'environment', width: { ideal: 1920 }, height: { ideal: 1080 } } };
    const stream = await navigator.mediaDevices.getUserMedia(asked).catch(() => null);
    if (!dialog.open) return stream?.getTracks().forEach((o) => o.stop()); // closed while the browser was asking
    if (stream) video.srcObject = stream;
    else {
      dialog.close();
      refuse(t('camera_refused'));
    }
  };
  dialog.setAttribute('aria-label', t('camera'));
  video.setAttribute('aria-label', t('camera'));
  dialog.querySelector('div').replaceChildren(shoot, cancel);
  dialog.addEventListener('close', off);
  video.addEventListener('loadeddata', () => {
    shoot.disabled = false;
    shoot.focus();
  });
  open.addEventListener('click', on);
  cancel.addEventListener('click', () => dialog.close());
  shoot.addEventListener('click', async () => {
    const file = await frameOf(video, `${t('camera_photo')}.jpg`);
    dialog.close();
    got([file], 'camera');
  });
  return open;
}

// Where a page may not see the camera (it is not https), a phone has a program of its own for it
function phoneCamera(t, got) {
  const label = made('label', 'bearclf-ask', t('use_camera')), input = document.createElement('input');
  input.type = 'file';
  input.accept = 'image/*';
  input.setAttribute('capture', 'environment');
  chosenWith(input, (files) => got(files, 'camera'));
  label.append(input);
  return label;
}

function chosenWith(input, got) {
  input.addEventListener('change', () => {
    const files = [...input.files];
    input.value = ''; // so that the same one can be chosen again
    if (files.length) got(files);
  });
}

async function cameraWay(dialog, t, got, refuse) {
  const media = isSecureContext && navigator.mediaDevices;
  if (!media) return matchMedia('(pointer: coarse)').matches ? phoneCamera(t, got) : null;
  const all = await media.enumerateDevices().catch(() => []);
  return all.some((o) => o.kind === 'videoinput') ? liveCamera(dialog, t, got, refuse) : null;
}

/**
 * The place for photos, in `el`. `take(files, how)` gets a list of files, with one in it unless `many`; `how` is one
 * of chosen, dropped, pasted, camera, example. What is dropped or pasted anywhere in `area` counts.
 * @param {HTMLElement} el
 * @param {{t: any, take: (files: File[], how: string) => void, many?: boolean, area?: HTMLElement,
 *   examples?: {name: string, src: string, alt?: string}[]}} options
 */
function photoZone(el, { t, take, many = false, area = el, examples = [] }) {
  el.classList.add('bearclf-upload');
  Object.assign(el, { lang: t.language, dir: t.dir });
  el.innerHTML = ZONE;
  const find = (o) => /** @type {any} */ (el.querySelector(o));
  const [input, empty, img, name, ask] = ['input', '.empty', 'img', '.name', '.ask'].map(find);
  const [said, note, ways, offered, dialog] = ['.said', '.note', '.ways', '.examples', 'dialog'].map(find);
  const askFor = (what, or) => {
    ask.children[0].textContent = t(what);
    ask.children[1].textContent = t(or);
    ask.children[2].textContent = t('paste');
  };
  const say = (text) => {
    note.textContent = text;
    el.classList.toggle('refused', !!text);
  };
  const got = (files, how) => {
    const first = files.length > 1 && !many;
    if (first) files = files.slice(0, 1);
    say('');
    said.classList.toggle('seen', first);
    if (files.length > 1) said.textContent = t('taking_many', { n: files.length });
    else said.textContent = t(first ? 'only_first' : 'taking', { name: files[0].name });
    take(files, how);
  };
  const picture = (blob) => {
    URL.revokeObjectURL(img.src);
    img.hidden = !blob;
    empty.hidden = !!blob;
    el.classList.toggle('filled', !!blob);
    if (blob) img.src = URL.createObjectURL(blob);
  };
  const show = (text, blob) => {
    name.textContent = text;
    img.alt = t('photo_alt', { name: text });
    askFor('choose_another', 'drop_here');
    picture(blob);
  };
  const offer = (all) => {
    offered.replaceChildren(made('p', '', t('examples')));
    offered.setAttribute('aria-label', t('examples'));
    all.forEach((o, i) => {
      const button = made('button', '', ''), small = document.createElement('img');
      small.src = o.src;
      small.alt = o.alt || t('example', { i: i + 1 });
      button.append(small);
      button.addEventListener('click', async () => got([await exampleFile(o)], 'example'));
      offered.append(button);
    });
    offered.hidden = !all.length;
  };
  input.multiple = many;
  askFor(many ? 'choose_many' : 'choose', many ? 'drop_many' : 'drop_here');
  chosenWith(input, (files) => got(files, 'chosen'));
  offer(examples);
  const deaf = hear(area, el, t, got, say);
  cameraWay(dialog, t, got, say).then((o) => {
    if (o) ways.append(o);
    ways.hidden = !o;
  });
  const close = () => {
    deaf();
    if (dialog.open) dialog.close();
    picture(null);
    el.replaceChildren();
  };
  return { show, picture, note: say, examples: offer, close };
}

export { photoZone, words };
