"""Which hash, and which distance, tells a near copy of a photo from a different photo.

python benchmarks/near.py [folder]   prints two tables; default ../shared/bears_small if it is there, or else the drawn bears
"""
import io, random, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from bearclf.photo import read_photo
from bearclf.practice.drawn import drawn_path
from bearclf.folder.copies import NEAR, NEAR_CROP, crop_hashes, perceptual_hash

REAL = Path(__file__).resolve().parents[2]/'shared'/'bears_small'
HASHES = {'bearclf': perceptual_hash, 'phash 8x8': lambda im: imagehash.phash(im), 'phash 16x16': lambda im: imagehash.phash(im, 16),
          'dhash 8x8': lambda im: imagehash.dhash(im), 'dhash 16x16': lambda im: imagehash.dhash(im, 16),
          'whash 8x8': lambda im: imagehash.whash(im), 'average 8x8': lambda im: imagehash.average_hash(im)}
# The same photo twice in the real folder, as somebody saw who looked at every pair that any hash found close
SAME = [('black/00000005.jpg', 'black/00000108.jpg'),  # one of them much cropped
        ('black/00000015.jpg', 'grizzly/00000148.jpg'), ('grizzly/00000036.jpg', 'grizzly/00000137.jpg')]


def saved(im, fmt, **kw):
    b = io.BytesIO(); im.save(b, fmt, **kw)
    return Image.open(b).convert('RGB')


def cropped(im, part, rng):
    "`im` without `part` of its width and height, taken from the two sides in any proportion"
    w, h = round(im.width*part), round(im.height*part)
    x, y = rng.randint(0, w), rng.randint(0, h)
    return im.crop((x, y, x + im.width - w, y + im.height - h))


def watermarked(im, _):
    im = im.copy(); w, h = im.size
    ImageDraw.Draw(im, 'RGBA').text((w*.6, h*.9), 'zoo photos', fill=(255, 255, 255, 180), font_size=max(6, w//16))
    return im


def captioned(im, _):
    "A white strip of 8 % of the height is laid over the lower end, with a line of text"
    im = im.copy(); w, h = im.size
    pen = ImageDraw.Draw(im)
    pen.rectangle((0, h*.92, w, h), fill='white'); pen.text((w*.05, h*.93), 'a bear in the woods', fill='black', font_size=max(6, h//18))
    return im


COPIES = {'half size': lambda im, _: im.resize((max(8, im.width//2), max(8, im.height//2)), Image.Resampling.LANCZOS),
          'JPEG 40': lambda im, _: saved(im, 'JPEG', quality=40), 'PNG': lambda im, _: saved(im, 'PNG'), 'WEBP': lambda im, _: saved(im, 'WEBP', quality=75),
          'brighter': lambda im, _: ImageEnhance.Brightness(im).enhance(1.2), 'watermark': watermarked, 'caption': captioned,
          'crop 4 %': lambda im, rng: cropped(im, .04, rng), 'crop 8 %': lambda im, rng: cropped(im, .08, rng),
          'crop 15 %': lambda im, rng: cropped(im, .15, rng), 'crop 25 %': lambda im, rng: cropped(im, .25, rng),
          'mirrored': lambda im, _: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)}


def bits(im): return {name: np.frombuffer(bytes.fromhex(str(f(im))), np.uint8) for name, f in HASHES.items()}


def packed(hashes): return np.stack([np.frombuffer(bytes.fromhex(o), np.uint8) for o in hashes])


def of_photo(file):
    "Hashes of a photo, of each of its copies, of the photo in black and white, and of crops of it and of that"
    im, rng = read_photo(file), random.Random(file.name)
    grey = im.convert('L').convert('RGB')
    return bits(im), {k: bits(f(im, rng)) for k, f in COPIES.items()}, bits(grey), packed(crop_hashes(im)), packed(crop_hashes(grey))


def of_drawn(file):
    im = read_photo(file)
    return bits(im), packed(crop_hashes(im))


def distances(rows, others):
    "How far each of `rows` is from each of `others`, both hashes as rows of bytes"
    return np.stack([np.bitwise_count(o ^ others).sum(-1, dtype=np.int16) for o in rows])


def crop_distances(own, crops):
    "For each two photos, how far one is from the nearest crop of the other"
    d = np.stack([distances(o, own).min(0) for o in crops])
    return np.minimum(d, d.T)


def row(*cells): print('| ' + ' | '.join(map(str, cells)) + ' |')


def heading(*cells): row(*cells); row(*['---']*len(cells))


def main(folder):
    files = sorted(o for o in folder.rglob('*') if o.is_file() and o.suffix != '.csv')
    names = [o.relative_to(folder).as_posix() for o in files]
    with ProcessPoolExecutor() as ex:
        own, copies, grey, crops, grey_crops = zip(*ex.map(of_photo, files, chunksize=8))
        drawn, drawn_crops = zip(*ex.map(of_drawn, sorted(drawn_path().glob('*/*.jpg')), chunksize=32))
    n, index = len(files), {o: i for i, o in enumerate(names)}
    pairs, drawn_pairs = np.triu(np.ones((n, n), bool), 1), np.triu(np.ones((len(drawn),)*2, bool), 1)
    for a, b in SAME:
        if a in index and b in index: pairs[tuple(sorted((index[a], index[b])))] = False
    print(f'{n} photos in {folder.name}, {pairs.sum():,} pairs of different ones; {len(drawn)} drawn bears, {drawn_pairs.sum():,} pairs\n')
    heading('hash', 'distance', *COPIES, 'false, photos', 'per million', 'false, in black and white', 'false, drawn')
    for h in HASHES:
        table = [np.stack([o[h] for o in rows]) for rows in (own, grey, drawn)]
        far = {k: np.array([np.bitwise_count(o[h] ^ c[k][h]).sum() for o, c in zip(own, copies)]) for k in COPIES}
        photos, greys, bears = (distances(t, t)[p] for t, p in zip(table, (pairs, pairs, drawn_pairs)))
        for d in {8: (2, 4, 6, 8, 10), 32: (16, 32, 48, 64), 72: (50, 65, NEAR, 80, 90)}[table[0].shape[1]]:
            false = (photos <= d).sum()
            row(h, d, *(f'{(v <= d).mean():.3f}' for v in far.values()), false, round(false/len(photos)*1e6), (greys <= d).sum(), (bears <= d).sum())
        print(f'{h}: the closest different photos are {photos.min()} apart, in black and white {greys.min()}, drawn {bears.min()}', file=sys.stderr)
        if h == 'bearclf': kept = table, far, (photos, greys, bears)
    print()
    heading('bearclf, and crops up to', *COPIES, 'false, photos', 'false, in black and white', 'false, drawn')
    table, far, whole = kept
    cut = [crop_distances(t, c)[p] for t, c, p in zip(table, (crops, grey_crops, drawn_crops), (pairs, pairs, drawn_pairs))]
    for d in (50, 60, NEAR_CROP, 70, 75):
        found = {k: (far[k] <= NEAR) | (np.array([np.bitwise_count(c ^ o[k]['bearclf']).sum(-1).min() for c, o in zip(crops, copies)]) <= d) for k in COPIES}
        row(d, *(f'{v.mean():.3f}' for v in found.values()), *(((w <= NEAR) | (c <= d)).sum() for w, c in zip(whole, cut)))
    print(*(f'the closest crops are {c.min()} apart' for c in cut), sep='; ', file=sys.stderr)


if __name__ == '__main__': main(Path(sys.argv[1]) if len(sys.argv) > 1 else REAL if REAL.is_dir() else drawn_path())
