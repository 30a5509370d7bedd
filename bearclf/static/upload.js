// The browser's half of `PhotoUpload`, in nbs/library/ship/24_page.ipynb: a photo is chosen or dropped, and sent
// to Python as small as it can be.

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
  <span class="ask"><strong>Choose a photo</strong> <span>or drop one here</span></span>
</label>
<p class="note" role="alert" dir="auto"></p>`;

// Is this a JPEG without its end mark? The thumbnail in a header has one too, so the headers are stepped over.
function cutShort(b) {
  if (b[0] !== 0xff || b[1] !== 0xd8) return false; // no JPEG
  let i = 2;
  while (b[i] === 0xff && b[i + 1] !== 0xda && i + 3 < b.length) i += 2 + b[i + 2] * 256 + b[i + 3];
  for (i = b.indexOf(0xff, i); i >= 0; i = b.indexOf(0xff, i + 1)) if (b[i + 1] === 0xd9) return false;
  return true;
}

// The file as it is where it is small, else as a JPEG of at most `side` pixels; null where it cannot be opened
async function slim(file, side, most) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const bitmap = cutShort(bytes)
    ? null
    : await createImageBitmap(file, { imageOrientation: 'from-image' }).catch(() => null);
  const scale = bitmap ? side / Math.max(bitmap.width, bitmap.height) : 1;
  if (scale >= 1 && bytes.length <= most) return { bytes, preview: bitmap && file };
  if (!bitmap) return null;
  const canvas = document.createElement('canvas'), g = canvas.getContext('2d'), k = Math.min(scale, 1);
  canvas.width = Math.max(1, Math.round(bitmap.width * k));
  canvas.height = Math.max(1, Math.round(bitmap.height * k));
  g.fillStyle = 'white';
  g.fillRect(0, 0, canvas.width, canvas.height);
  g.imageSmoothingQuality = 'high';
  g.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const preview = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.9));
  return { bytes: new Uint8Array(await preview.arrayBuffer()), preview };
}

// What happens to a file: it is refused with a sentence, or goes to Python as a message with its bytes beside it
async function take(file, model, show, refuse) {
  if (!file) return refuse('That was no file. Save the picture first, then drop the file here.');
  const { name, size } = file, limit = model.get('limit_mb'), most = model.get('message_mb') * 1e6;
  if (!size) return refuse(`${name} is empty; get it again.`, name);
  if (size > limit * 1e6) {
    return refuse(
      `${name} has ${Math.ceil(size / 1e6)} MB. Photos of up to ${limit} MB are taken here; make it smaller first.`,
      name,
    );
  }
  show(name, null);
  const got = await slim(file, model.get('side'), most).catch(() => undefined);
  if (got === undefined) return refuse(`${name} cannot be read; is it a folder, or was it moved?`, name);
  if (!got) return refuse(`${name} cannot be opened here; if it is a photo, save it as JPEG first.`, name);
  show(name, got.preview);
  model.send({ kind: 'photo', name, seen: !!got.preview }, undefined, [got.bytes.buffer]);
}

// A file comes from the input, or is dropped: on the zone, and under Voilà anywhere on the page
function wire(el, input, take1) {
  const area = document.body.dataset.voila ? document.body : el;
  const over = (on) => (e) => {
    e.preventDefault();
    e.stopPropagation();
    el.classList.toggle('over', on);
  };
  const drop = (e) => {
    over(false)(e);
    take1(e.dataTransfer.files[0]);
  };
  const heard = { dragenter: over(true), dragover: over(true), dragleave: over(false), drop };
  for (const o in heard) area.addEventListener(o, heard[o]);
  input.addEventListener('change', () => {
    const file = input.files[0];
    if (file) take1(file);
    input.value = '';
  });
  return () => {
    for (const o in heard) area.removeEventListener(o, heard[o]);
  };
}

// Who comes back after the kernel has ended, as it does when nobody is there for long, gets the page anew
async function wake(kernel) {
  const answer = document.hidden ? null : await fetch(kernel).catch(() => null);
  if (answer && answer.status === 404) location.reload();
}

// The visitor's kernel ends with the visit; phones often do not send the `beforeunload` that Voilà waits for
function sayGoodbye() {
  const told = document.getElementById('jupyter-config-data');
  const page = document.body.dataset;
  if (!page.voila || !told || page.goodbye) return;
  page.goodbye = 'is said when the page is left';
  const { baseUrl, kernelId } = JSON.parse(told.textContent);
  addEventListener('pagehide', () => navigator.sendBeacon(`${baseUrl}voila/api/shutdown/${kernelId}`));
  for (const o of ['visibilitychange', 'focus', 'online']) {
    addEventListener(o, () => wake(`${baseUrl}api/kernels/${kernelId}`), true);
  }
  addEventListener('pageshow', (e) => {
    if (e.persisted) location.reload();
  });
}

function render({ model, el }) {
  el.classList.add('bearclf-upload');
  el.innerHTML = ZONE;
  const [input, empty, img, name, ask, note] = ['input', '.empty', 'img', '.name', '.ask strong', '.note'].map((o) =>
    el.querySelector(o)
  );
  const picture = (blob) => {
    URL.revokeObjectURL(img.src);
    img.hidden = !blob;
    empty.hidden = !!blob;
    el.classList.toggle('filled', !!blob);
    if (blob) img.src = URL.createObjectURL(blob);
  };
  const say = () => {
    note.textContent = model.get('note');
    el.classList.toggle('refused', !!model.get('note'));
  };
  const show = (text, blob) => {
    name.textContent = text;
    img.alt = `The photo ${text}`;
    ask.textContent = 'Choose another photo';
    picture(blob);
  };
  const set = (key, value) => {
    model.set(key, value);
    model.save_changes();
  };
  const refuse = (why, text) => {
    if (text) show(text, null);
    set('note', why);
    model.send({ kind: 'none' });
  };
  const take1 = async (file) => {
    el.classList.add('busy');
    set('note', '');
    set('busy', true);
    model.send({ kind: 'none' });
    try {
      await take(file, model, show, refuse);
    } finally {
      set('busy', false);
      el.classList.remove('busy');
    }
  };
  const preview = (msg, buffers) => {
    if (msg.kind === 'preview') picture(new Blob([buffers[0]], { type: 'image/jpeg' }));
  };
  model.on('change:note', say);
  model.on('msg:custom', preview);
  say();
  const unwire = wire(el, input, take1);
  sayGoodbye();
  return () => {
    model.off('change:note', say);
    model.off('msg:custom', preview);
    unwire();
  };
}

export default { render };
