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
  const exact = { imageOrientation: 'from-image', colorSpaceConversion: 'none' };
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
  try {
    if (kind === 'png' && b[24] === 16 && b[25] === 0 && !b[28]) return await fineGrey(b, width, height);
    const bitmap = await decoded(new Blob([bytes])), half = kind === 'jpeg' && n > most.pixels ? 2 : 1;
    const pixels = pixelsOf(bitmap, half);
    bitmap.close();
    return pixels;
  } catch {
    throw refused(kind === 'is_heic' ? kind : 'damaged');
  }
}

// Pillow's weights for bilinear resizing from `size` to `to`: of each pixel its first source and integers of 22 bits
function weights(size, to) {
  const scale = size / to, wide = Math.max(scale, 1), ones = 1 << 22;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale, from = Math.max(0, Math.trunc(centre - wide + 0.5));
    const n = Math.min(size, Math.trunc(centre + wide + 0.5)) - from;
    const k = Array.from({ length: n }, (_, j) => Math.max(0, 1 - Math.abs((j + from - centre + 0.5) / wide)));
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

// The part of `im` from columns and rows `xs` and `ys`, resized as Pillow does it, across and then down
function resized(im, xs, ys, width, height) {
  const { data, channels } = im, across = weights(xs.length, width), down = weights(ys.length, height), half = 1 << 21;
  const row = width * channels, rows = new Map(), out = new Uint8Array(height * row);
  const wide = (y) => {
    const line = new Uint8Array(row), start = y * im.width;
    let o = 0;
    for (const { from, k } of y < 0 ? [] : across) {
      for (let c = 0; c < channels; c++) {
        let sum = half;
        for (let j = 0; j < k.length; j++) {
          const x = xs[from + j];
          if (x >= 0) sum += k[j] * data[(start + x) * channels + c];
        }
        line[o++] = sum >> 22;
      }
    }
    return line;
  };
  down.forEach(({ from, k }, i) => {
    const sums = new Int32Array(row).fill(half);
    k.forEach((weight, j) => {
      const y = ys[from + j];
      if (!rows.has(y)) rows.set(y, wide(y));
      const line = rows.get(y);
      for (let o = 0; o < row; o++) sums[o] += weight * line[o];
    });
    for (let o = 0; o < row; o++) out[i * row + o] = sums[o] >> 22;
  });
  return { width, height, channels, data: out };
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
  const beyond = pad_mode || (what === 'pad' ? 'reflection' : 'zeros');
  return resized(im, places(im.width, left, w, beyond), places(im.height, top, h, beyond), width, height);
}

// What the network takes of the photo: numbers from 0 to 1, one colour after the other
function prepared({ width, height, data }, steps, mode) {
  let im = { width, height, channels: 3, data };
  if (mode === 'L') {
    const grey = Uint8Array.from(
      { length: width * height },
      (_, i) => data[3 * i] * 19595 + data[3 * i + 1] * 38470 + data[3 * i + 2] * 7471 + 0x8000 >> 16,
    );
    im = { width, height, channels: 1, data: grey };
  }
  for (const o of steps) im = step(im, o);
  const n = im.width * im.height, out = new Float32Array(n * im.channels);
  for (let c = 0; c < im.channels; c++) for (let i = 0; i < n; i++) out[c * n + i] = im.data[i * im.channels + c] / 255;
  return out;
}

export { headOf, prepared, readPhoto, Refused };
