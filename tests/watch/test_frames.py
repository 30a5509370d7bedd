"Frames of films as they come: mp4, webm, turned, cut off, no film at all; what moves in them; crops that stay whole"
import os, struct, sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bearclf.core import BearclfError, error_text
from bearclf.practice.film import draw_film, film_path
from bearclf.watch.frames import Box, background, crop, frames, match_boxes, moving_boxes, save_crops
from helpers import python

CODECS = {'.mp4': 'libx264', '.webm': 'libvpx', '.avi': 'mpeg4', '.mkv': 'libx264'}


def picture(i, size=(96, 64)):
    "A grey frame whose number can be read off its brightness, red in the upper left corner"
    im = np.full((size[1], size[0], 3), 40 + 8*(i % 25), np.uint8)
    im[:size[1]//4, :size[0]//4] = 220, 20, 20
    return im


def write(file, n=20, size=(96, 64), rate=10, pts=None, turn=None, options=None):
    "A film of `n` frames; `pts` are their times in milliseconds"
    with av.open(file, 'w') as out:
        stream = out.add_stream(CODECS[Path(file).suffix], rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
        if turn: stream.set_display_rotation(turn)
        if pts: stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i in range(n):
            o = av.VideoFrame.from_ndarray(picture(i, size), 'rgb24')
            if pts: o.pts, o.time_base = pts[i], Fraction(1, 1000)
            out.mux(stream.encode(o))
        out.mux(stream.encode(None))
    return Path(file)


def read(*args, **kwargs):
    "All frames, and the sentence at the end, '' if there is none"
    got = []
    try:
        for o in frames(*args, **kwargs): got.append(o)
    except BearclfError as e: return got, str(e)
    return got, ''


# --- films as they should be

@pytest.mark.parametrize('suffix', CODECS)
def test_every_frame_comes_at_its_time(suffix, tmp_path):
    got, said = read(write(tmp_path/f'a{suffix}'))
    assert said == '' and len(got) == 20
    assert np.allclose([t for t, _ in got], np.arange(20)/10, atol=.002)
    assert {(im.mode, im.size) for _, im in got} == {('RGB', (96, 64))}
    grey = [np.asarray(im)[40:, 60:].mean() for _, im in got]
    assert np.abs(np.array(grey) - [40 + 8*i for i in range(20)]).max() < 9


@pytest.mark.parametrize('every, wanted', [(.5, [0, .5, 1, 1.5]), (.3, [0, .3, .6, .9, 1.2, 1.5, 1.8]), (10, [0]),
                                           (.1, np.arange(20)/10), (.01, np.arange(20)/10),
                                           (.25, [0, .3, .5, .8, 1, 1.3, 1.5, 1.8])])
def test_one_frame_in_so_many_seconds(every, wanted, tmp_path):
    got, _ = read(write(tmp_path/'a.mp4'), every)
    assert np.allclose([t for t, _ in got], wanted, atol=.002)


def test_a_rate_that_changes(tmp_path):
    "A phone makes fewer frames in the dark: the times are those of the frames, not of a fixed rate"
    pts = [0, 40, 80, 120, 620, 1120, 1620, 1640, 1660, 5000]
    for suffix in '.mp4', '.mkv':
        got, said = read(write(tmp_path/f'a{suffix}', 10, pts=pts, options={'bf': '0'}))
        assert said == '' and np.allclose([t for t, _ in got], np.array(pts)/1000, atol=.002)
    assert [round(t, 2) for t, _ in frames(tmp_path/'a.mp4', 1)] == [0, 1.12, 5]


def test_a_film_that_does_not_begin_at_zero(tmp_path):
    got, _ = read(write(tmp_path/'a.mkv', 5, pts=[7000, 7100, 7200, 7300, 7400]))
    assert np.allclose([t for t, _ in got], [0, .1, .2, .3, .4], atol=.002)


@pytest.mark.parametrize('turn, corner', [(0, (0, 0)), (90, (0, 1)), (-90, (1, 0)), (180, (1, 1))])
def test_a_phone_on_its_side(turn, corner, tmp_path):
    "The red corner goes where the turn (counterclockwise) takes it"
    (_, im), *_ = read(write(tmp_path/'a.mp4', 3, turn=turn))[0]
    assert im.size == ((96, 64) if turn in (0, 180) else (64, 96))
    for x in 0, 1:
        for y in 0, 1:
            r, g, _ = np.asarray(im)[(5, -6)[y], (5, -6)[x]].astype(int)
            assert (r - g > 100) == ((x, y) == corner), (x, y)


def test_smaller_frames(tmp_path):
    write(tmp_path/'a.mp4', 3, turn=90)
    assert read(tmp_path/'a.mp4', side=48)[0][0][1].size == (32, 48)
    assert read(tmp_path/'a.mp4', side=4800)[0][0][1].size == (64, 96)
    for o in 0, -1: assert 'side' in error_text(read_all, tmp_path/'a.mp4', side=o)
    for o in 0, -1, float('nan'): assert 'every' in error_text(read_all, tmp_path/'a.mp4', every=o)

def read_all(*args, **kwargs): return [*frames(*args, **kwargs)]


def test_the_file_is_closed_when_nobody_reads_on(tmp_path):
    it = frames(write(tmp_path/'a.mp4'))
    next(it)
    it.close()
    if sys.platform == 'linux':
        assert not [o for o in Path('/proc/self/fd').iterdir() if os.path.realpath(o) == str(tmp_path/'a.mp4')]


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_memory_is_bounded(tmp_path):
    "A film of 600 frames of 1280 by 720 is 1.6 GB of pixels"
    write(tmp_path/'a.mp4', 600, (1280, 720), options=dict(preset='ultrafast', crf='40'))
    most = python(f'''
from bearclf.watch.frames import *
def peak(): return int(next(o for o in open('/proc/self/status') if 'VmHWM' in o).split()[1])/1024
next(frames({str(tmp_path/"a.mp4")!r}))
empty = background({str(tmp_path/"a.mp4")!r})
before = peak()
n = sum(1 for _ in frames({str(tmp_path/"a.mp4")!r}))
empty = background({str(tmp_path/"a.mp4")!r})
print(n, empty.shape[1], peak() - before, before)''')
    n, width, more, before = map(float, most.split())
    assert n == 600 and width == 160 and more < 60 and before < 400


# --- films as they should not be

@pytest.mark.parametrize('part', [.1, .5, .9, .999])
@pytest.mark.parametrize('kind', ['webm', 'mp4 index first', 'mp4 in fragments', 'mkv'])
def test_a_film_that_is_cut_short_gives_what_it_has(kind, part, tmp_path):
    flags = {'mp4 index first': 'faststart', 'mp4 in fragments': 'frag_keyframe+empty_moov'}.get(kind)
    noise = lambda i, size: np.random.default_rng(i).integers(0, 255, (size[1], size[0], 3), np.uint8)
    options = {'g': '5'} if kind != 'webm' else {'g': '5', 'b': '2M'}
    whole = _film(tmp_path/f'whole.{kind.split()[0]}', noise, options, flags)
    n = len(read(whole)[0])
    assert read(whole)[1] == '' and n == 100
    cut = tmp_path/f'cut{whole.suffix}'
    cut.write_bytes(whole.read_bytes()[:round(part*whole.stat().st_size)])
    got, said = read(cut)
    assert cut.name in said and ('cut short' in said) and '\n' not in said
    assert part*n*.6 - 6 < len(got) <= n
    times = [t for t, _ in got]
    assert times == sorted(times) and all(abs(t - i/10) < .01 for i, t in enumerate(times))

def _film(file, noise, options, flags):
    with av.open(file, 'w', options={'movflags': flags} if flags else {}) as out:
        stream = out.add_stream(CODECS[file.suffix], rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for i in range(100): out.mux(stream.encode(av.VideoFrame.from_ndarray(noise(i, (64, 48)), 'rgb24')))
        out.mux(stream.encode(None))
    return file


def test_an_mp4_without_its_index(tmp_path):
    data = write(tmp_path/'a.mp4').read_bytes()
    (tmp_path/'b.mp4').write_bytes(data[:len(data)//2])
    got, said = read(tmp_path/'b.mp4')
    assert got == [] and 'b.mp4 is damaged or cut short' in said


def test_damage_in_the_middle(tmp_path):
    "The frames before and behind it are given, and that some are missing is said, or they are only ugly"
    data = bytearray(write(tmp_path/'a.webm', 60, options={'g': '5'}).read_bytes())
    half = len(data)//2
    data[half:half + 400] = b'\xff'*400
    (tmp_path/'b.webm').write_bytes(data)
    got, said = read(tmp_path/'b.webm')
    assert 25 < len(got) <= 60 and '\n' not in said


@pytest.mark.parametrize('name, data, why', [
    ('a.mp4', b'I am a text, and called mp4.\n'*50, 'is a text, not a film'),
    ('b.webm', 'Текст, который не фильм.\n'.encode()*9000, 'is a text, not a film'),
    ('c.mp4', b'', 'is empty'), ('d.mp4', bytes(range(128, 256))*40, 'no format of films'),
    ('e.mp4', struct.pack('>I', 24) + b'ftypisom\0\0\2\0isommp41', 'damaged or cut short'),
    ('f.webm', b'\x1aE\xdf\xa3' + b'\0'*40, 'damaged or cut short')])
def test_no_film_at_all(name, data, why, tmp_path):
    (tmp_path/name).write_bytes(data)
    got, said = read(tmp_path/name)
    assert got == [] and said.startswith(name) and why in said and '\n' not in said
    assert why in error_text(save_crops, tmp_path/name, tmp_path/'crops') and not (tmp_path/'crops').exists()
    assert why in error_text(background, tmp_path/name)


def test_places_where_there_is_no_film(tmp_path):
    assert 'no file' in read(tmp_path/'none.mp4')[1] and 'folder' in read(tmp_path)[1]
    assert 'empty' in read('')[1]


def test_only_sound(tmp_path):
    with av.open(tmp_path/'a.mp4', 'w') as out:
        stream = out.add_stream('aac', rate=8000, layout='mono')
        o = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        o.sample_rate = 8000
        out.mux(stream.encode(o)), out.mux(stream.encode(None))
    assert read(tmp_path/'a.mp4') == ([], 'a.mp4 holds no pictures, only sound or texts.')


def test_sound_that_goes_on_is_no_cut(tmp_path):
    with av.open(tmp_path/'a.mp4', 'w') as out:
        video, sound = out.add_stream('libx264', rate=10), out.add_stream('aac', rate=8000, layout='mono')
        video.width, video.height, video.pix_fmt = 96, 64, 'yuv420p'
        for i in range(10): out.mux(video.encode(av.VideoFrame.from_ndarray(picture(i), 'rgb24')))
        out.mux(video.encode(None))
        for i in range(60):
            o = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
            o.sample_rate, o.pts = 8000, 1024*i
            out.mux(sound.encode(o))
        out.mux(sound.encode(None))
    got, said = read(tmp_path/'a.mp4')
    assert len(got) == 10 and said == ''


def test_no_frames(tmp_path):
    with av.open(tmp_path/'a.mkv', 'w') as out:
        stream = out.add_stream('libx264', rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, 'yuv420p'
        out.start_encoding()
    got, said = read(tmp_path/'a.mkv')
    assert got == [] and said.startswith('a.mkv') and '\n' not in said


# --- boxes

def test_overlap():
    a = Box(0, 0, 10, 10)
    assert a.overlap(a) == 1 and a.overlap((10, 0, 5, 5)) == 0 and a.overlap((0, 0, 0, 0)) == 0
    assert a.overlap((5, 0, 10, 10)) == pytest.approx(1/3) == Box(5, 0, 10, 10).overlap(a)


def test_each_box_has_at_most_one_partner():
    found = [Box(0, 0, 10, 10), Box(1, 0, 10, 10), Box(50, 50, 5, 5)]
    assert match_boxes(found, [Box(1, 0, 10, 10), Box(80, 80, 4, 4)]) == [(1, 0)]
    assert match_boxes(found, []) == match_boxes([], found) == []
    assert match_boxes(found, found) == [(0, 0), (1, 1), (2, 2)]
    assert match_boxes([Box(0, 0, 10, 10)], [Box(8, 0, 10, 10)]) == []
    assert match_boxes([Box(0, 0, 10, 10)], [Box(8, 0, 10, 10)], least=.1) == [(0, 0)]


def test_a_crop_stays_in_the_picture():
    im = Image.new('RGB', (40, 30))
    assert crop(im, (0, 0, 10, 20), 0).size == (10, 20) and crop(im, (0, 0, 10, 20), .1).size == (12, 22)
    assert crop(im, (10, 10, 10, 10), .1).size == (12, 12) and crop(im, (-5, -5, 100, 100)).size == (40, 30)
    assert crop(im, Box(10, 10, 4, 8).square(), 0).size == (8, 8)
    for o in (50, 0, 5, 5), (0, 0, 0, 0): assert 'outside' in error_text(crop, im, o, 0)


# --- what moves

def scene(boxes=(), light=1., grain=4, seed=0, size=(160, 120)):
    "A wall with stripes, and bright boxes before it"
    rng = np.random.default_rng(seed)
    im = np.broadcast_to(90 + 50*(np.arange(size[0])//20 % 2), (size[1], size[0])).astype(float)
    for x, y, w, h in boxes: im = im.copy(); im[y:y+h, x:x+w] = 200
    im = np.stack([im]*3, 2)*light + rng.normal(0, grain, (size[1], size[0], 3))
    return Image.fromarray(im.clip(0, 255).astype(np.uint8))

def empty_scene(**kwargs):
    return np.median(np.stack([scene(seed=i, **kwargs) for i in range(100, 125)]), 0).astype(np.float32)


@pytest.mark.parametrize('light', [.5, .8, 1, 1.2])
@pytest.mark.parametrize('grain', [0, 2, 6])
def test_what_moves_is_found_and_nothing_else(light, grain):
    empty, boxes = empty_scene(grain=grain), [(20, 60, 30, 25), (100, 30, 20, 20)]
    for i in range(10): assert moving_boxes(scene((), light, grain, i), empty) == []
    got = moving_boxes(scene(boxes, light, grain), empty)
    assert match_boxes(got, boxes, .8) == [(0, 0), (1, 1)] and len(got) == 2, 'the largest first'


def test_small_things_and_pieces():
    empty = empty_scene()
    assert moving_boxes(scene([(50, 50, 5, 5)]), empty) == []
    assert len(moving_boxes(scene([(50, 50, 5, 5)]), empty, least=.0005)) == 1
    near = [(40, 40, 15, 15), (57, 40, 15, 15)]
    assert len(moving_boxes(scene(near), empty)) == 1 and len(moving_boxes(scene(near), empty, join=0)) in (1, 2)
    assert len(moving_boxes(scene([(0, 0, 20, 20), (140, 100, 20, 20)]), empty)) == 2, 'at the edge, too'


def test_boxes_are_in_pixels_of_the_frame():
    im, empty = scene([(20, 60, 30, 25)]), empty_scene()
    large = moving_boxes(im.resize((640, 480)), empty)
    assert match_boxes(large, [(80, 240, 120, 100)], .8) == [(0, 0)]


def test_the_background_is_the_film_without_what_walks(tmp_path):
    film = film_path('watch test', 60, 4)
    empty, (_, first) = background(film), next(frames(film, side=160))
    assert empty.shape == (120, 160, 3) and empty.dtype == np.float32
    assert moving_boxes(first, empty) == []  # nobody is there in the first half second
    assert background(film, side=80).shape == (60, 80, 3)


@pytest.mark.parametrize('seed', ['watch test', 'another', 'a third'])
def test_hens_of_a_drawn_minute_are_found(seed):
    film = film_path(seed, 60, 4)
    truth, empty, n, both, nobody = pd.read_csv(film.with_suffix('.csv')), background(film), 0, 0, 0
    for t, im in frames(film, .5):
        now = truth[(truth.time - t).abs() < .01]
        half, boxes = now[now.visible >= .5][['x', 'y', 'w', 'h']].values, moving_boxes(im, empty)
        n, both = n + len(half), both + len(match_boxes(boxes, half))
        nobody += sum(not any(b.overlap(o) > 0 for o in now[['x', 'y', 'w', 'h']].values) for b in boxes)
    assert n > 60 and both/n > .85 and nobody <= 3


# --- crops

def test_crops_and_their_table(tmp_path):
    film = film_path('watch test', 60, 4)
    table = save_crops(film, tmp_path/'day', every=2)
    files = sorted(o.name for o in (tmp_path/'day').iterdir())
    assert files == sorted([*table.file, 'crops.csv']) and len(table) > 15
    assert pd.read_csv(tmp_path/'day'/'crops.csv').equals(table) and [*tmp_path.iterdir()] == [tmp_path/'day']
    for o in table.itertuples():
        with Image.open(tmp_path/'day'/o.file) as im:
            assert im.format == 'JPEG' and max(im.size) <= 1.3*max(o.w, o.h) + 2


def test_another_finder(tmp_path):
    film = film_path('watch test', 60, 4)
    table = save_crops(film, tmp_path/'a', 20, find=lambda im: [(0, 0, im.width, im.height), (5, 6, 7, 8)], margin=0)
    assert [*table[['x', 'y', 'w', 'h']].itertuples(index=False, name=None)] == [(0, 0, 320, 240), (5, 6, 7, 8)]*3
    assert save_crops(film, tmp_path/'b', 20, find=lambda im: []).empty and (tmp_path/'b'/'crops.csv').exists()


def test_a_cut_film_gives_its_crops_and_a_sentence(tmp_path, capsys):
    draw_film(tmp_path/'a.webm', 20, seed='watch test')
    data = (tmp_path/'a.webm').read_bytes()
    (tmp_path/'cut.webm').write_bytes(data[:len(data)*2//3])
    table = save_crops(tmp_path/'cut.webm', tmp_path/'crops')
    assert len(table) and 'cut.webm is cut short' in capsys.readouterr().out


def test_nothing_is_overwritten_or_left_half_made(tmp_path):
    film = film_path('watch test', 60, 4)
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'a.txt').write_text('mine')
    for o in tmp_path/'mine', tmp_path/'mine'/'a.txt': assert 'not an empty folder' in error_text(save_crops, film, o)
    assert [o.name for o in (tmp_path/'mine').iterdir()] == ['a.txt']
    def find(im):
        find.n = getattr(find, 'n', 0) + 1
        if find.n == 5: raise KeyboardInterrupt
        return [(0, 0, 9, 9)]
    (tmp_path/'empty').mkdir()
    with pytest.raises(KeyboardInterrupt): save_crops(film, tmp_path/'empty', find=find)
    assert sorted(o.name for o in tmp_path.iterdir()) == ['empty', 'mine'] and not [*(tmp_path/'empty').iterdir()]
    save_crops(film, tmp_path/'empty', 20, find=lambda im: [(0, 0, 9, 9)])
    assert len([*(tmp_path/'empty').iterdir()]) == 4


def test_importing_it_is_light():
    loaded = python('import sys, bearclf.watch.frames, bearclf.practice.film; print(*sys.modules)').split()
    assert 'bearclf.watch.frames' in loaded and not {'torch', 'fastai', 'av', 'scipy', 'pandas'} & {*loaded}
