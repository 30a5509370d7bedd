// A photo as Python reads it (bearclf/photo.py) and as the network takes it (bearclf/ship/portable.py)

// A photo that is not taken: `code` is the key of a sentence in the texts, `values` fill its placeholders
class Refused extends Error {
  constructor(code, values) {
    super(code);
    this.code = code;
    this.values = values;
  }
}

// What Python's limits are, and one for JPEG, which a browser cannot decode at a half: megabytes, millions of pixels
const LIMITS = { mb: 160, pixels: 51, fine: 25, jpeg: 110 };

const latin = (b, from, to) => String.fromCharCode(...b.subarray(from, to));

// How files begin that are no photos for a browser, in small letters
const STARTS = {
  is_raw: ['fujifilmccd-raw', 'iiro', 'iirs', 'iiu\0', 'ii\x1a\0\0\0heapccdr', 'mmor', 'fovb', '\0mrm'],
  is_tiff: ['ii*\0', 'ii+\0', 'mm\0*', 'mm\0+'],
  is_web_page: ['<!doctype html', '<html', '<head'],
  is_drawing: ['<?xml', '<svg', '%!ps', '\xe5\xf0\xf3\xe6'],
  is_pdf: ['%pdf'],
  is_video: ['\x1ae\xdf\xa3'],
};

// What a file is that is no JPEG, PNG, WEBP, GIF or BMP, from its first bytes
function kindOf(b) {
  const start = latin(b, 0, Math.min(b.length, 512)), brands = start.slice(8, 40);
  if (start.slice(4, 8) === 'ftyp') {
    if (/avi[fso]/.test(brands)) return 'avif';
    if (brands.startsWith('crx ')) return 'is_raw';
    return /^(mif[12]|msf1|miaf|he[iv][cxmsa]|avc[is])/.test(brands) ? 'is_heic' : 'is_video';
  }
  const text = start.replace(/^(\xef\xbb\xbf|\s)+/, '').toLowerCase();
  for (const kind in STARTS) if (STARTS[kind].some((o) => text.startsWith(o))) return kind;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(b.subarray(0, 512), { stream: true });
    return 'is_text';
  } catch {
    return 'is_unknown';
  }
}

const near = (b, i, n) => b.subarray(i, i + n).reduceRight((sum, o) => sum * 256 + o, 0); // last byte first
const far = (b, i, n) => b.subarray(i, i + n).reduce((sum, o) => sum * 256 + o, 0);

// Width and height that a JPEG claims, and how much of its waves is held at once if it is progressive
function jpegHead(b) {
  let i = 2;
  for (; b[i] === 0xff && i + 9 < b.length; i += 2 + far(b, i + 2, 2)) {
    while (b[i + 1] === 0xff) i++;
    const mark = b[i + 1];
    if (mark === 0xda) break;
    if (mark < 0xc0 || mark > 0xcf || [0xc4, 0xc8, 0xcc].includes(mark)) continue;
    const parts = [...Array(b[i + 9]).keys()].map((n) => b[i + 11 + 3 * n]).map((o) => (o >> 4) * (o & 15));
    const [height, width] = [far(b, i + 5, 2), far(b, i + 7, 2)], sum = parts.reduce((x, y) => x + y, 0);
    return { width, height, held: mark === 0xc2 ? 2 * width * height * sum / Math.max(...parts) : 0 };
  }
  return null;
}

// The largest picture of a GIF: its screen, or the first frame, which may be larger
function gifHead(b) {
  let i = 13 + (b[10] & 128 ? 3 << (b[10] & 7) + 1 : 0);
  while (b[i] === 0x21) {
    for (i += 2; b[i]; i += b[i] + 1);
    i++;
  }
  const frame = b[i] === 0x2c ? [near(b, i + 1, 2) + near(b, i + 5, 2), near(b, i + 3, 2) + near(b, i + 7, 2)] : [0, 0];
  return { width: Math.max(near(b, 6, 2), frame[0]), height: Math.max(near(b, 8, 2), frame[1]) };
}

function webpHead(b) {
  const kind = latin(b, 12, 16);
  if (kind === 'VP8X') return { width: 1 + near(b, 24, 3), height: 1 + near(b, 27, 3) };
  if (kind === 'VP8 ') return { width: near(b, 26, 2) & 0x3fff, height: near(b, 28, 2) & 0x3fff };
  const bits = near(b, 21, 4);
  return { width: 1 + bits % 0x4000, height: 1 + Math.floor(bits / 0x4000) % 0x4000 };
}

// Where the notes of EXIF begin and end in a WEBP or PNG; null if it has none
function exifIn(b, kind) {
  const webp = kind === 'webp', name = webp ? 'EXIF' : 'eXIf';
  for (let i = webp ? 12 : 8; i + 12 < b.length;) {
    const n = webp ? near(b, i + 4, 4) : far(b, i, 4), at = i + 8;
    if (latin(b, webp ? i : i + 4, webp ? i + 4 : at) === name) return [at, at + n];
    i = at + n + (webp ? n % 2 : 4);
  }
  return null;
}

// How a photo with the EXIF notes `e` is to be turned, 1 to 8; 1 if they do not say, or make no sense
function turnIn(e) {
  const number = e[0] === 0x49 ? near : far, at = number(e, 4, 4), n = Math.min(number(e, at, 2), 500);
  const tags = [...Array(n).keys()].map((o) => at + 2 + 12 * o), tag = tags.find((o) => number(e, o, 2) === 0x112);
  const turn = tag ? number(e, tag + 8, 2) : 1;
  return turn >= 1 && turn <= 8 ? turn : 1;
}

// How a photo is to be turned, and the file without that: of a WEBP or PNG, not every browser does what EXIF says
function unturned(b, kind) {
  const found = ['webp', 'png'].includes(kind) ? exifIn(b, kind) : null;
  if (!found) return { turn: 1, blob: new Blob([b]) };
  const [from, to] = found, notes = b.slice(from, to);
  const turn = turnIn(latin(notes, 0, 4) === 'Exif' ? notes.subarray(6) : notes);
  if (kind === 'png') return { turn, blob: new Blob([b.subarray(0, from - 8), b.subarray(to + 4)]) };
  b.fill(0, from, to);
  return { turn, blob: new Blob([b]) };
}

// The picture turned as EXIF says: 2 to 4 mirror and turn by a half, 5 to 8 exchange the sides
function turned({ width, height, data }, turn) {
  const across = turn > 4, w = across ? height : width, h = across ? width : height, out = new Uint8Array(data.length);
  const left = [2, 3, 7, 8].includes(turn), up = [3, 4, 6, 7].includes(turn);
  for (let y = 0, o = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const [u, v] = across ? [y, x] : [x, y], i = 3 * ((up ? height - 1 - v : v) * width + (left ? width - 1 - u : u));
      for (let c = 0; c < 3; c++) out[o++] = data[i + c];
    }
  }
  return { width: w, height: h, data: out };
}

// The largest picture that an AVIF or HEIC file speaks of: its tiles are said beside the whole
function boxHead(b) {
  let most = { width: 0, height: 0 };
  for (let i = b.indexOf(0x69); i >= 0 && i < 1 << 20; i = b.indexOf(0x69, i + 1)) {
    if (latin(b, i, i + 4) !== 'ispe') continue;
    const [width, height] = [far(b, i + 8, 4), far(b, i + 12, 4)];
    if (width * height > most.width * most.height) most = { width, height };
  }
  return most;
}

/**
 * What the first bytes of a file say: its kind, and how large the picture is, which is not decoded yet
 * @returns {{ kind: string, width?: number, height?: number, held?: number }}
 */
function headOf(b) {
  const start = latin(b, 0, Math.min(b.length, 16));
  if (start.startsWith('\xff\xd8\xff')) return { kind: 'jpeg', ...jpegHead(b) };
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return { kind: 'png', width: far(b, 16, 4), height: far(b, 20, 4) };
  if (start.startsWith('GIF8')) return { kind: 'gif', ...gifHead(b) };
  if (/^RIFF....WEBP/s.test(start)) return { kind: 'webp', ...webpHead(b) };
  if (start.startsWith('BM')) {
    const old = b[14] === 12, height = near(b, old ? 20 : 22, old ? 2 : 4);
    return { kind: 'bmp', width: near(b, 18, old ? 2 : 4), height: old ? height : Math.abs(height | 0) };
  }
  const kind = kindOf(b);
  return { kind, ...(kind === 'avif' || kind === 'is_heic' ? boxHead(b) : null) };
}

// Is this the beginning of a file only? Python refuses it; some browsers show what is there
function cutOff(b, kind) {
  if (kind === 'png') return b.length < 12 || latin(b, b.length - 8, b.length - 4) !== 'IEND' && !hasEnd(b);
  if (kind === 'webp') return b.length < 8 + near(b, 4, 4);
  if (kind !== 'jpeg') return false;
  let i = 2; // the thumbnail in a header has an end mark, too, so the headers are stepped over
  while (b[i] === 0xff && b[i + 1] !== 0xda && i + 3 < b.length) i += 2 + far(b, i + 2, 2);
  for (i = b.indexOf(0xff, i); i >= 0; i = b.indexOf(0xff, i + 1)) if (b[i + 1] === 0xd9) return false;
  return true;
}

function hasEnd(b) {
  let i = 8;
  while (i + 8 <= b.length && latin(b, i + 4, i + 8) !== 'IEND') i += 12 + far(b, i, 4);
  return i + 8 <= b.length;
}

// The picture in a file as the browser decodes it: upright, its colours as they are stored
async function decoded(blob) {
  const exact = { imageOrientation: 'from-image', colorSpaceConversion: 'none', premultiplyAlpha: 'none' };
  try {
    return await createImageBitmap(blob, /** @type {ImageBitmapOptions} */ (exact));
  } catch (e) {
    if (e instanceof TypeError) return await createImageBitmap(blob); // an engine that does not know the options
    throw e;
  }
}

const SIDE = 2048; // of a piece of the picture on the canvas, in pixels: phones have no large ones

// The pixels of `bitmap` on white, RGB, of which `by` times `by` become one
function pixelsOf(bitmap, by) {
  const width = Math.floor(bitmap.width / by) || 1, height = Math.floor(bitmap.height / by) || 1;
  const canvas = document.createElement('canvas'), data = new Uint8Array(3 * width * height);
  canvas.width = Math.min(SIDE, bitmap.width);
  canvas.height = Math.min(SIDE, bitmap.height);
  const g = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
  for (let top = 0; top < height * by; top += SIDE) {
    for (let left = 0; left < width * by; left += SIDE) {
      g.fillStyle = 'white';
      g.fillRect(0, 0, SIDE, SIDE);
      g.drawImage(bitmap, -left, -top);
      const w = Math.min(SIDE, width * by - left), h = Math.min(SIDE, height * by - top);
      copy(g.getImageData(0, 0, w, h).data, w, h, by, data, width, top / by * width + left / by);
    }
  }
  canvas.width = canvas.height = 0; // Safari keeps its memory otherwise
  return { width, height, data };
}

async function pixelsIn(blob, by) {
  const bitmap = await decoded(blob), pixels = pixelsOf(bitmap, by);
  bitmap.close();
  return pixels;
}

// RGBA `from` into RGB `to` with `width` pixels in a row, from the pixel `at` on; squares of `by` become their mean
function copy(from, w, h, by, to, width, at) {
  for (let y = 0; y < h; y += by) {
    let i = 3 * (at + y / by * width);
    if (by === 1) {
      for (let j = 4 * y * w, end = j + 4 * w; j < end; j += 4) {
        to[i++] = from[j];
        to[i++] = from[j + 1];
        to[i++] = from[j + 2];
      }
      continue;
    }
    for (let x = 0; x < w; x += by) {
      for (let c = 0; c < 3; c++) {
        let sum = by * by >> 1;
        for (let v = y; v < y + by; v++) for (let u = x; u < x + by; u++) sum += from[4 * (v * w + u) + c];
        to[i++] = sum / (by * by);
      }
    }
  }
}

// Grey of 16 bits, of which browsers keep the upper eight: all of it, from black to what the fewest bits can hold
async function fineGrey(b, width, height) {
  const parts = [];
  for (let i = 8; i + 12 <= b.length; i += 12 + far(b, i, 4)) {
    if (latin(b, i + 4, i + 8) === 'IDAT') parts.push(b.subarray(i + 8, i + 8 + far(b, i, 4)));
  }
  const unpacked = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'));
  const rows = new Uint8Array(await new Response(unpacked).arrayBuffer()), n = 2 * width;
  let most = 0, before = new Uint8Array(n);
  const grey = new Uint16Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = rows.subarray(y * (n + 1) + 1, (y + 1) * (n + 1));
    unfilter(rows[y * (n + 1)], row, before);
    before = row;
    for (let x = 0; x < width; x++) most = Math.max(most, grey[y * width + x] = row[2 * x] * 256 + row[2 * x + 1]);
  }
  const white = most < 3 ? most || 1 : 2 ** Math.ceil(Math.log2(most + 1)) - 1, data = new Uint8Array(3 * grey.length);
  grey.forEach((o, i) => data.fill(o * 255 / white, 3 * i, 3 * i + 3));
  return { width, height, data };
}

// What PNG's filter `kind` has left of a row of 16-bit grey, as it was
function unfilter(kind, row, before) {
  for (let i = 0; i < row.length && kind; i++) {
    const a = i < 2 ? 0 : row[i - 2], b = before[i], c = i < 2 ? 0 : before[i - 2], p = a + b - c;
    const [da, db, dc] = [a, b, c].map((o) => Math.abs(p - o));
    row[i] += [0, a, b, a + b >> 1, da <= db && da <= dc ? a : db <= dc ? b : c][kind];
  }
}

// The pixels of the photo in `file`, upright, on white: {width, height, data}, RGB; or it is `Refused`
async function readPhoto(file, limits = {}) {
  const most = { ...LIMITS, ...limits },
    name = file.name || '',
    refused = (code, o) => new Refused(code, { name, ...o });
  if (!file.size) throw refused('empty');
  if (file.size > most.mb * 1e6) throw refused('too_many_mb', { mb: Math.ceil(file.size / 1e6), limit_mb: most.mb });
  const bytes = await file.arrayBuffer().catch(() => null);
  if (!bytes) throw refused('unreadable');
  const b = new Uint8Array(bytes), { kind, width, height, held } = headOf(b), n = width * height / 1e6;
  if (kind.startsWith('is_') && kind !== 'is_heic') throw refused(kind);
  const limit = kind === 'jpeg' ? most.jpeg : ['webp', 'avif', 'is_heic'].includes(kind) ? most.fine : most.pixels;
  if (n > limit || held > 7e6 * most.pixels) throw refused('too_many_pixels', { millions: Math.ceil(n), limit });
  if (!(n > 0) || cutOff(b, kind)) throw refused(kind === 'is_heic' ? kind : 'damaged');
  const fine = kind === 'png' && b[24] === 16 && b[25] === 0;
  if (fine && b[28]) throw refused('cannot_open_here'); // interlaced: rows in another order, which nobody writes
  try {
    const { turn, blob } = unturned(b, kind);
    const half = kind === 'jpeg' && n > most.pixels ? 2 : 1;
    const pixels = fine ? await fineGrey(b, width, height) : await pixelsIn(blob, half);
    return turn > 1 ? turned(pixels, turn) : pixels;
  } catch {
    throw refused(kind === 'is_heic' ? kind : 'damaged');
  }
}

// Pillow's weights for bilinear resizing from `size` to `to`: of each pixel its first source and integers of 22 bits
function weights(size, to) {
  const scale = size / to, wide = Math.max(scale, 1), narrow = 1 / wide, ones = 1 << 22;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale, from = Math.max(0, Math.trunc(centre - wide + 0.5));
    const n = Math.min(size, Math.trunc(centre + wide + 0.5)) - from;
    const k = Array.from({ length: n }, (_, j) => Math.max(0, 1 - Math.abs((j + from - centre + 0.5) * narrow)));
    const sum = k.reduce((x, y) => x + y, 0);
    return { from, k: Int32Array.from(k, (o) => Math.trunc(o / sum * ones + 0.5)) };
  });
}

// Where each of `n` pixels of a part that begins at `first` comes from in a picture of `size`; -1 is black
function places(size, first, n, beyond) {
  const turn = 2 * (size - 1) || 1;
  return Int32Array.from({ length: n }, (_, i) => {
    const at = i + first;
    if (at >= 0 && at < size) return at;
    if (beyond === 'zeros') return -1;
    if (beyond === 'border') return at < 0 ? 0 : size - 1;
    const o = (at % turn + turn) % turn;
    return size === 1 ? 0 : Math.min(o, turn - o);
  });
}

// The columns `xs` of `im`, resized to `width`
function across(im, xs, width) {
  const { data, height } = im, n = xs.length, all = weights(n, width);
  const line = new Uint8Array(3 * n), out = new Uint8Array(3 * width * height);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0, i = 0, start = 3 * y * im.width; x < n; x++) {
      const at = start + 3 * xs[x], seen = xs[x] >= 0;
      line[i++] = seen ? data[at] : 0;
      line[i++] = seen ? data[at + 1] : 0;
      line[i++] = seen ? data[at + 2] : 0;
    }
    for (const { from, k } of all) {
      let red = 1 << 21, green = red, blue = red;
      for (let j = 0, i = 3 * from; j < k.length; j++) {
        red += k[j] * line[i++];
        green += k[j] * line[i++];
        blue += k[j] * line[i++];
      }
      out[o++] = red >> 22;
      out[o++] = green >> 22;
      out[o++] = blue >> 22;
    }
  }
  return { width, height, data: out };
}

// The rows `ys` of `im`, resized to `height`
function down(im, ys, height) {
  const { data, width } = im, n = 3 * width, out = new Uint8Array(height * n), sums = new Int32Array(n);
  weights(ys.length, height).forEach(({ from, k }, i) => {
    sums.fill(1 << 21);
    for (let j = 0; j < k.length; j++) {
      const start = ys[from + j] * n, weight = k[j];
      if (start >= 0 && weight) { for (let o = 0; o < n; o++) sums[o] += weight * data[start + o]; }
    }
    for (let o = 0; o < n; o++) out[i * n + o] = sums[o] >> 22;
  });
  return { width, height, data: out };
}

// The part of `im` from columns `xs` and rows `ys`, resized in the order that Pillow takes
function resized(im, xs, ys, width, height) {
  const less = ys.length - height, downFirst = less > 0 && less > 2 * (xs.length - width);
  return downFirst ? across(down(im, ys, height), xs, width) : down(across(im, xs, width), ys, height);
}

// One of the steps in portable.py: what to `do`, the size [height, width], what stands beyond the edges
function step(im, { do: what, size: [height, width], pad_mode }) {
  let w = im.width, h = im.height, left = 0, top = 0;
  if (what === 'center') {
    [w, h] = [width, height];
    [left, top] = [Math.floor((im.width - w) / 2), Math.floor((im.height - h) / 2)];
  } else if (what !== 'squish') {
    const m = Math[what === 'crop' ? 'min' : 'max'](im.height / height, im.width / width);
    [w, h] = [Math.max(1, Math.trunc(m * width)), Math.max(1, Math.trunc(m * height))];
    [left, top] = [Math.trunc(0.5 * (im.width - w)), Math.trunc(0.5 * (im.height - h))];
  }
  if (w * h > 150e6) throw new Refused('too_narrow', {});
  const beyond = pad_mode || (what === 'pad' ? 'reflection' : 'zeros');
  return resized(im, places(im.width, left, w, beyond), places(im.height, top, h, beyond), width, height);
}

// What the network takes of the photo: numbers from 0 to 1, one colour after the other; of mode L, grey alone
function prepared(pixels, steps, mode) {
  const im = steps.reduce(step, mode === 'L' ? grey(pixels) : pixels), n = im.width * im.height;
  return Float32Array.from(
    { length: mode === 'L' ? n : 3 * n },
    (_, i) => im.data[i % n * 3 + Math.floor(i / n)] / 255,
  );
}

function grey({ width, height, data }) {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < out.length; i += 3) {
    out.fill(data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000 >> 16, i, i + 3);
  }
  return { width, height, data: out };
}

export { headOf, prepared, readPhoto, Refused };
