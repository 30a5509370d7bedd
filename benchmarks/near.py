"""Which hash, and which distance, tells a near copy of a photo from a different photo; and what the pixels say.

    python benchmarks/near.py [FOLDER ...] # default bears_small, plants and signs in ../shared; writes near.csv here
    python benchmarks/near.py --smoke      # 60 small drawn bears; prints the table

For the first folder a row for each hash and distance: which part of the copies of each kind was found, and how many
pairs of different pictures were called near. "bearclf, and crops" compares with five crops of the larger photo too,
within that distance. Then for each folder, of every sixth photo's copies: what is found with hashes alone, up to
NEAR for the whole photo and 65 for a crop, and with "hashes and pixels", as `verify` does.
"""
import csv, io, random, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from common import words
from bearclf.photo import read_photo
from bearclf.practice.drawn import drawn_path
from bearclf.folder.copies import ASKED, CROPS, NEAR, crop_hashes, perceptual_hash, same_picture
from bearclf.folder.verify import verify

SHARED, NEAR_CROP = Path(__file__).resolve().parents[2]/'shared', 65
REAL = [SHARED/o for o in ('bears_small', 'plants', 'signs')]
HASHES = {'bearclf': perceptual_hash,
          'phash 8x8': imagehash.phash, 'phash 16x16': lambda im: imagehash.phash(im, 16),
          'dhash 8x8': imagehash.dhash, 'dhash 16x16': lambda im: imagehash.dhash(im, 16),
          'whash 8x8': imagehash.whash, 'average 8x8': imagehash.average_hash}
DISTANCES = {8: (2, 4, 6, 8, 10), 32: (16, 32, 48, 64), 72: (50, 65, NEAR, 80, 90)}  # bytes of a hash -> what is tried
# The same photo twice in the real folder, as somebody saw who looked at every pair that any hash found close
SAME = [('black/00000005.jpg', 'black/00000108.jpg'),  # one of them much cropped
        ('black/00000015.jpg', 'grizzly/00000148.jpg'), ('grizzly/00000036.jpg', 'grizzly/00000137.jpg'),
        ('Aptenia cordifolia/005.jpg', 'Aptenia cordifolia/017.jpg'), ('aloe vera/006.jpg', 'aloe vera/037.jpg'),
        ('aloe vera/025.jpg', 'aloe vera/052.jpg'),  # one with a banner across
        ('sansevieria trifasciata/022.jpg', 'sansevieria trifasciata/043.jpg'),
        ('sansevieria trifasciata/036.jpg', 'sansevieria trifasciata/044.jpg'),
        ('spathiphyllum/013.jpg', 'spathiphyllum/052.jpg')]


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
    pen.rectangle((0, h*.92, w, h), fill='white')
    pen.text((w*.05, h*.93), 'a bear in the woods', fill='black', font_size=max(6, h//18))
    return im


def halved(im, _): return im.resize((max(8, im.width//2), max(8, im.height//2)), Image.Resampling.LANCZOS)


COPIES = {'half size': halved, 'JPEG 40': lambda im, _: saved(im, 'JPEG', quality=40),
          'PNG': lambda im, _: saved(im, 'PNG'), 'WEBP': lambda im, _: saved(im, 'WEBP', quality=75),
          'brighter': lambda im, _: ImageEnhance.Brightness(im).enhance(1.2),
          'watermark': watermarked, 'caption': captioned,
          'crop 4 %': lambda im, rng: cropped(im, .04, rng), 'crop 8 %': lambda im, rng: cropped(im, .08, rng),
          'crop 15 %': lambda im, rng: cropped(im, .15, rng), 'crop 25 %': lambda im, rng: cropped(im, .25, rng),
          'mirrored': lambda im, _: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)}


def bits(im): return {name: np.frombuffer(bytes.fromhex(str(f(im))), np.uint8) for name, f in HASHES.items()}


def packed(hashes): return np.stack([np.frombuffer(bytes.fromhex(o), np.uint8) for o in hashes])


def of_photo(file):
    "Hashes of a photo, of each of its copies, of the photo in black and white, and of crops of it and of that"
    im, rng = read_photo(file), random.Random(file.name)
    grey = im.convert('L').convert('RGB')
    copies = {k: bits(f(im, rng)) for k, f in COPIES.items()}
    return bits(im), copies, bits(grey), packed(crop_hashes(im)), packed(crop_hashes(grey))


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


def different(names):
    "The pairs of photos that are not the same photo, as a triangle of a square matrix"
    pairs, index = np.triu(np.ones((len(names),)*2, bool), 1), {o: i for i, o in enumerate(names)}
    for a, b in SAME:
        if a in index and b in index: pairs[tuple(sorted((index[a], index[b])))] = False
    return pairs


def asked(file):
    "For each kind of copy of a photo: whether hashes alone find it, and whether they and the pixels do"
    im, rng = read_photo(file), random.Random(file.name)
    hashes, res = packed([perceptual_hash(im), *crop_hashes(im)]), []
    for make in COPIES.values():
        copy = make(im, rng)
        d = np.bitwise_count(hashes ^ packed([perceptual_hash(copy)])).sum(-1)
        res.append(((d[0] <= NEAR or d.min() <= NEAR_CROP), d.min() <= ASKED and
                    same_picture(im, copy, CROPS[d.argmin()])))
    return np.array(res)


def with_pixels(folder, every):
    "Two rows: hashes alone, and hashes and pixels; false pairs among all photos, copies of some"
    files = photos_in(folder)
    names = [o.relative_to(folder).as_posix() for o in files]
    hashes = [packed([perceptual_hash(im := read_photo(o)), *crop_hashes(im)]) for o in files]
    own, crops = np.stack([o[0] for o in hashes]), [o[1:] for o in hashes]
    near = (distances(own, own) <= NEAR) | (crop_distances(own, crops) <= NEAR_CROP)
    false = (near & different(names)).sum()
    same = {frozenset(o) for o in SAME}
    called = [frozenset((r[0].file, r[4].file)) for r in verify(folder).rows if r[4]]
    print(folder.name, [sorted(o) for o in called], file=sys.stderr)
    with ProcessPoolExecutor() as ex: found = np.mean([*ex.map(asked, files[::every])], 0)
    wrong = dict(zip(('hashes alone', 'hashes and pixels'), (false, sum(o not in same for o in called))))
    for i, way in enumerate(wrong):
        yield f'{way}, {folder.name}', '', *(f'{o:.3f}' for o in found[:, i]), wrong[way]


def photos_in(folder): return sorted(o for o in folder.rglob('*') if o.is_file() and o.suffix != '.csv')


def measure(folder, bears):
    "Rows of the table, head first"
    files = photos_in(folder)
    with ProcessPoolExecutor() as ex:
        own, copies, grey, crops, grey_crops = zip(*ex.map(of_photo, files, chunksize=8))
        drawn, drawn_crops = zip(*ex.map(of_drawn, photos_in(bears), chunksize=32))
    pairs = different([o.relative_to(folder).as_posix() for o in files])
    pairs = pairs, pairs, different(range(len(drawn)))
    print(f'{len(files)} photos in {folder.name}, {pairs[0].sum():,} pairs of different ones; '
          f'{len(drawn)} drawn bears, {pairs[2].sum():,} pairs', file=sys.stderr)
    yield 'hash', 'distance', *COPIES, 'false, photos', 'per million', 'false, in black and white', 'false, drawn'
    def line(name, d, near_copies, near):
        false = [o.sum() for o in near]
        found, per_million = [f'{o.mean():.3f}' for o in near_copies], round(false[0]/len(near[0])*1e6)
        return name, d, *found, false[0], per_million, *false[1:]
    for h in HASHES:
        tables = [np.stack([o[h] for o in rows]) for rows in (own, grey, drawn)]
        far = {k: np.array([np.bitwise_count(o[h] ^ c[k][h]).sum() for o, c in zip(own, copies)]) for k in COPIES}
        apart = [distances(t, t)[p] for t, p in zip(tables, pairs)]
        closest(h, apart)
        for d in DISTANCES[tables[0].shape[1]]:
            yield line(h, d, [o <= d for o in far.values()], [o <= d for o in apart])
        if h == 'bearclf': kept = tables, far, apart
    tables, far, apart = kept
    cut = [crop_distances(t, c)[p] for t, c, p in zip(tables, (crops, grey_crops, drawn_crops), pairs)]
    closest('bearclf, and crops', cut)
    to_crop = lambda k: np.array([np.bitwise_count(c ^ o[k]['bearclf']).sum(-1).min() for c, o in zip(crops, copies)])
    to_crops = {k: to_crop(k) for k in COPIES}
    for d in 50, 60, NEAR_CROP, 70, 75:
        found = [(far[k] <= NEAR) | (to_crops[k] <= d) for k in COPIES]
        yield line('bearclf, and crops', d, found, [(w <= NEAR) | (c <= d) for w, c in zip(apart, cut)])


def closest(name, apart):
    "Say how far the closest different pictures are apart"
    photos, greys, bears = (o.min() for o in apart)
    print(f'{name}: the closest different photos are {photos} apart, in black and white {greys}, drawn {bears}',
          file=sys.stderr)


def main(args):
    if '--smoke' in args:
        bears = drawn_path(n=60, size=64)
        return csv.writer(sys.stdout).writerows([*measure(bears, bears), *with_pixels(bears, 20)])
    folders = [Path(o) for o in args] or REAL
    for o in folders:
        if not o.is_dir(): sys.exit(f'There is no folder {o}. Name one with photos.')
    rows, dest = list(measure(folders[0], drawn_path())), Path(__file__).with_suffix('.csv')
    for o in folders: rows += with_pixels(o, 6)
    with open(dest, 'w', newline='') as f: csv.writer(f, lineterminator='\n').writerows(rows)


if __name__ == '__main__': main(words(__doc__))
