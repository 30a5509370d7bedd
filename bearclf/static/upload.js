// The browser's half of `PhotoUpload`, in nbs/library/ship/24_page.ipynb: a photo that was chosen in the zone is sent
// to Python as small as it can be.
import { photoZone, words } from './photos.js';
import { sayGoodbye } from './visit.js';

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
async function take(file, model, t, show, refuse) {
  const { name, size } = file, limit = model.get('limit_mb'), most = model.get('message_mb') * 1e6;
  const no = (key, more = {}) => refuse(t(key, { name, ...more }), name);
  if (!size) return no('empty');
  if (size > limit * 1e6) return no('too_many_mb', { mb: Math.ceil(size / 1e6), limit_mb: limit });
  show(name, null);
  const got = await slim(file, model.get('side'), most);
  if (!got) return no('cannot_open_here');
  show(name, got.preview);
  model.send({ kind: 'photo', name, seen: !!got.preview }, undefined, [got.bytes.buffer]);
}

function render({ model, el }) {
  const t = words(model.get('texts'), navigator.languages), voila = !!document.body.dataset.voila;
  // Messages arrive in their order; a state that is set here may wait, and arrive when Python has set another
  const tell = (kind, note) => {
    zone.note(note);
    model.send({ kind, note });
  };
  const refuse = (why, name) => {
    zone.show(name, null);
    tell('none', why);
  };
  const takeOne = async ([file]) => {
    el.classList.add('busy');
    tell('coming', '');
    await take(file, model, t, zone.show, refuse).catch(() => refuse(t('unreadable', { name: file.name }), file.name));
    el.classList.remove('busy');
  };
  const zone = photoZone(el, { t, take: takeOne, area: voila ? document.body : el });
  const say = () => zone.note(model.get('note'));
  const offer = () => zone.examples(model.get('examples'));
  const preview = (msg, buffers) => {
    if (msg.kind === 'preview') zone.picture(new Blob([buffers[0]], { type: 'image/jpeg' }));
  };
  model.on('change:note', say);
  model.on('change:examples', offer);
  model.on('msg:custom', preview);
  say();
  offer();
  model.set('language', t.language);
  model.save_changes();
  if (voila) document.documentElement.lang = t.language;
  sayGoodbye();
  return () => {
    model.off('change:note', say);
    model.off('change:examples', offer);
    model.off('msg:custom', preview);
    zone.close();
  };
}

export default { render };
