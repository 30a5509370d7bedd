"A folder put in order: every planted fault found and nothing else, nothing ever lost, and all of it taken back"
import io, os, random, shutil
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from helpers import can_fork, killed_at
from bearclf import photo
from bearclf.photo import look_at
from bearclf.core import BearclfError
from bearclf.photo import PhotoError, read_photo
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.folder.copies import HashIndex
from bearclf.folder.private import without_personal_data
from bearclf.folder.moves import ASIDE, HOME, History, undo
from bearclf.folder.verify import verify

FINDING = dict(truncated='unreadable', not_images='unreadable', wrong_extension='wrong extension',
               near_duplicated='near duplicate')


def state(path):
    "Every folder, and every file with its bytes and its time"
    return {o.relative_to(path).as_posix(): (sha256(o.read_bytes()).hexdigest(), o.stat().st_mtime_ns) if o.is_file()
            else None
            for o in path.rglob('*')}


def contents(path):
    return sorted(sha256(o.read_bytes()).hexdigest() for o in path.rglob('*') if o.is_file()
                  and o.parent.name != HOME)


def n_back(path): return sum(not o[3] for o in undo(path).rows)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "A folder with faults of every kind, and the list of them"
    path = tmp_path_factory.mktemp('drawn')/'bears'
    planted = draw_bears(path, 60, 128, truncated=3, not_images=3, wrong_extension=4, duplicated=4, near_duplicated=12)
    return path, planted


@pytest.fixture
def messy(drawn, tmp_path): return shutil.copytree(drawn[0], tmp_path/'bears'), drawn[1]


def test_every_planted_fault_and_nothing_else(drawn):
    path, planted = drawn
    before = state(path)
    table = verify(path).table
    assert state(path) == before
    found = {(r.finding, frozenset([r.file, r.what.rpartition(' ')[2]] if r.what.startswith(('same', 'nearly'))
                                   else [r.file])) for r in table.itertuples()}
    kind = lambda r: FINDING.get(r.fault) or ('duplicate' if r.label == r.truth else 'same photo in two classes')
    assert found == {(kind(r), frozenset([r.file, r.original] if r.original else [r.file]))
                     for r in planted.itertuples()}
    assert len(table) == len(planted)


def test_different_bears_are_different(tmp_path):
    draw_bears(tmp_path/'bears', 240, 128, seed='other')
    assert verify(tmp_path/'bears').rows == []


def test_fix_then_undo_is_as_before(messy):
    path, planted = messy
    before, held = state(path), contents(path)
    report = verify(path, fix=True)
    assert not report.problems and contents(path) == held
    assert set(verify(path).table.finding) == {'same photo in two classes'}
    seen = [o for o in path.rglob('*') if o.is_file() and not any(p.startswith('.') for p in o.relative_to(path).parts)]
    for o in seen:
        if o.suffix != '.csv': read_photo(o); assert photo.real_suffix(o) == o.suffix
    assert n_back(path) == len(report.done) == sum(report.table.action != 'for you to decide')
    assert state(path) == before and n_back(path) == 0


def test_the_one_with_most_pixels_stays(tmp_path):
    for o in 'ab': (tmp_path/o).mkdir()
    big = draw_bear('teddy', 1, 256)
    big.resize((100, 100)).save(tmp_path/'a/1.jpg'); big.save(tmp_path/'a/2.jpg'); big.save(tmp_path/'a/10.jpg')
    big.save(tmp_path/'b/1.jpg', quality=50)
    draw_bear('black', 2, 64).save(tmp_path/'a/3.png')
    Image.open(tmp_path/'a/3.png').save(tmp_path/'a/4.webp', lossless=True)
    found = [tuple(o) for o in verify(tmp_path).table.itertuples(index=False)]
    assert found == [('a/4.webp', 'duplicate', 'same as a/3.png', 'set aside'),
                     ('a/10.jpg', 'duplicate', 'same as a/2.jpg', 'set aside'),
        ('a/1.jpg', 'near duplicate', 'nearly the same as a/2.jpg', 'set aside'),
        ('b/1.jpg', 'same photo in two classes', 'nearly the same as a/2.jpg', 'for you to decide')]


def test_what_was_cut_out_of_a_photo_is_found(tmp_path):
    (tmp_path/'a').mkdir()
    for i in range(12):
        bear = draw_bear('grizzly', i, 200)
        bear.save(tmp_path/f'a/{i}.png')
        bear.crop((12*(i%2), 12*(i%3)//2, 188 + 12*(i%2), 188 + 12*(i%3)//2)).save(tmp_path/f'a/{i} cut.jpg')
    found = verify(tmp_path).table
    assert set(found.finding) == {'near duplicate'}
    assert {(r.file, r.what) for r in found.itertuples()} <= {(f'a/{i} cut.jpg', f'nearly the same as a/{i}.png')
                                                              for i in range(12)}
    assert len(found) >= 10


def test_two_fixes_are_taken_back_one_by_one(messy):
    path, _ = messy
    states = [state(path)]
    verify(path, fix=True)
    (path/'black'/'new.jpg').write_text('Too many requests')
    shutil.copy(path/'teddy/00000002.jpg', path/'teddy/again.jpg')
    states.append(state(path))
    assert len(verify(path, fix=True).done) == 2
    assert n_back(path) == 2 and state(path).keys() == states[1].keys()
    for o in 'black/new.jpg', 'teddy/again.jpg': (path/o).unlink()
    assert n_back(path) > 10 and state(path) == states[0]


def test_of_many_findings_three_are_shown(tmp_path):
    "Up to five of a kind are shown whole; `told` shows all"
    (tmp_path/'a').mkdir()
    for i in range(43): draw_bear('teddy', 1, 64).save(tmp_path/f'a/{i}.jpg', 'JPEG' if i < 38 else 'PNG')
    for i in range(5): (tmp_path/f'a/{i}.png').write_text('no photo')
    report = verify(tmp_path)
    said = str(report).splitlines()
    assert said[1:8].count('unreadable: 5') == 1 and sum(' a text' in o or 'a/' in o for o in said[2:7]) == 5
    at = said.index('duplicate: 41')
    assert said[at+1].startswith('  a/1.jpg: same as a/0.jpg') and said[at+4] == '  and 38 more in `.table`'
    every = report.told(all=True)
    assert all(f'  {o}: ' in every for o in report.table.file) and 'more' not in every
    assert '  and 38 more with --all' in report.told(rest='with --all')


def test_names(tmp_path):
    zoo = tmp_path/'медведи'/'кот'
    zoo.mkdir(parents=True)
    names = ['1.jpg?itok=COe4LoKt', '1.jpg', '2.jpg!d', '2.JPG;w=960', '3.php?itemNumber=5261&type=regular',
             'st. bernard', 'a:b|c.png', 'con.png', '.hidden.png', '4.jpeg', '5.JPG', '6.jfif', 'photo.2020']
    if os.name == 'nt': names = [o for o in names if not set(o) & set('?:|')]
    for i, o in enumerate(names): draw_bear('teddy', i, 64).save(zoo/o, 'JPEG')
    before = state(tmp_path)
    assert verify(zoo.parent, fix=True).problems == []
    found = {o.name for o in zoo.iterdir()}
    if os.name != 'nt':
        assert found == {'1.jpg', '1-2.jpg', '2.jpg', '2-2.jpg', '3.jpg', 'st. bernard.jpg', 'a_b_c.jpg', '_con.jpg',
                         '.hidden.png', '4.jpeg', '5.JPG', '6.jpg', 'photo.2020.jpg'}
    assert not [o for o in found if set(o) & set('<>:"|?*\\')]
    assert n_back(zoo.parent) and state(tmp_path) == before


RAWS = 'nef NRW dng cr2 cr3 arw srf orf rw2 raf pef srw x3f 3fr iiq rwl kdc dcr mrw erf raw'.split()

def test_a_raw_keeps_its_name_and_place(tmp_path):
    "Whether it is read, built like a TIFF, or not; beside its JPEG, and twice"
    for o in 'ab': (tmp_path/o).mkdir()
    for i, o in enumerate(RAWS):
        draw_bear('teddy', i, 200).save(tmp_path/f'a/{i}.{o}', 'TIFF')
        (tmp_path/f'b/{i}.{o}').write_bytes(b'II*\0\x08\0\0\0' + bytes(99))
    draw_bear('teddy', 0, 96).save(tmp_path/'a/0.jpg')  # smaller than the preview
    shutil.copy(tmp_path/'a/1.NRW', tmp_path/'a/1 again.NRW')
    for i, head in enumerate([b'FUJIFILMCCD-RAW 0201', b'\0\0\0\x18ftypcrx ', b'IIRO\x08', b'IIU\0\x08', b'', b'FOVb']):
        (tmp_path/f'b/odd {i}.cr3').write_bytes(head + bytes(40*bool(head)))
    before, report = state(tmp_path), verify(tmp_path, fix=True)
    assert report.done == {} and state(tmp_path) == before
    assert report.n_photos == len(RAWS) + 2 and set(report.table.action) == {'for you to decide'}
    said = {r.file: r.what for r in report.table.itertuples() if r.finding == 'camera raw'}
    assert len(said) == 2*len(RAWS) + 7 and not {'unreadable', 'wrong extension'} & {*report.table.finding}
    for i, o in enumerate(RAWS):
        assert said[f'a/{i}.{o}'] == 'only its preview of 200 x 200 pixels is read'
        assert said[f'b/{i}.{o}'] == 'a camera raw that cannot be read here (export it as a JPEG)'
    assert [r.file for r in report.table.itertuples() if r.finding.endswith('duplicate')] == ['a/1.NRW', 'a/0.nef']


SIDE_CARS = '''
1.xmp 1.jpg.xmp 1.AAE 1.jpg.json 1.jpg.supplemental-metadata.json 1.json 1.thm 1.pp3 1.jpg.pp3
1.jpg.dop 1.on1 1.cos 1.vrd 1.unheard 1.jpg.md5 alone.xmp alone.aae Picasa.ini 2.xmp 2.png.json
2.png.unheard 3.xmp 3.thm 4.history 4.cr3.xmp
'''.split()

def test_side_cars_stay_where_they_are(tmp_path):
    "Also when their photo gets another name or is set aside; an undo brings the two together"
    (tmp_path/'a').mkdir()
    for o in SIDE_CARS: (tmp_path/'a'/o).write_text('<x:xmpmeta/>')
    for i in 1, 2: draw_bear('teddy', i, 96).save(tmp_path/f'a/{i}.{"jpg" if i == 1 else "png"}', 'JPEG')
    shutil.copy(tmp_path/'a/1.jpg', tmp_path/'a/3.jpg')
    draw_bear('teddy', 1, 64).save(tmp_path/'a/3.thm', 'JPEG')
    (tmp_path/'a/4.cr3').write_bytes(b'\0\0\0\x18ftypcrx ')
    before, report = state(tmp_path), verify(tmp_path, fix=True)
    assert report.done == {'a/2.png': 'a/2.jpg', 'a/3.jpg': '.bearclf/aside/a/3.jpg'} and report.n_photos == 3
    assert {o for o in SIDE_CARS if (tmp_path/'a'/o).exists()} == {*SIDE_CARS}
    assert [r.file for r in report.table.itertuples() if r.file not in report.done] == ['a/4.cr3']
    undo(tmp_path)
    assert state(tmp_path) == before


def test_what_only_looks_like_a_side_car(tmp_path):
    "A photo that cannot be read is one, whatever lies beside it"
    (tmp_path/'a').mkdir()
    draw_bear('teddy', 1, 96).save(tmp_path/'a/1.jpg')
    for o in '1.png', '1.heic', '1.avif', '1', '2.unheard': (tmp_path/'a'/o).write_bytes(b'\xfe\xff no photo')
    assert {*verify(tmp_path).table.file} == {'a/1.png', 'a/1.heic', 'a/1.avif', 'a/1', 'a/2.unheard'}


def test_files_that_are_not_meant(tmp_path):
    (tmp_path/'a').mkdir()
    for o in 'labels.csv', 'a/notes.txt', 'a/Thumbs.db', 'a/.DS_Store', 'README': (tmp_path/o).write_text('a text')
    draw_bear('teddy', 1, 64).save(tmp_path/'a/1.png'); shutil.copy(tmp_path/'a/1.png', tmp_path/'loose.jpg')
    (tmp_path/'half.jpg').write_text('no photo')
    if os.name != 'nt': (tmp_path/'a/z.jpg').symlink_to('nowhere')
    found = {(r.file, r.finding, r.action) for r in verify(tmp_path).table.itertuples()}
    assert found == {('loose.jpg', 'duplicate', 'set aside'),
                     ('half.jpg', 'unreadable', 'set aside')} | ({('a/z.jpg', 'unreadable', 'for you to decide')}
                                                                 if os.name != 'nt' else set())


def test_places_that_are_taken_meanwhile(messy):
    path, planted = messy
    web = planted.file[planted.fault == 'not_images'].iloc[0]
    png = planted.file[planted.fault == 'wrong_extension'].iloc[0]
    report = verify(path)
    (path/png).with_suffix('.png').write_text('mine'); (path/ASIDE/web).parent.mkdir(parents=True)
    (path/ASIDE/web).write_text('mine too')
    report.fix()
    assert (path/png).with_suffix('.png').read_text() == 'mine' and (path/ASIDE/web).read_text() == 'mine too'
    assert not report.problems
    held = contents(path)
    (path/web).write_text('a new one')
    back = undo(path)
    assert len(back.rows) == len(report.done) and [o.partition(';')[0] for o in back.problems] == [
        f'{web} is taken meanwhile'] and (path/web).read_text() == 'a new one'
    assert set(contents(path)) >= set(held)
    (path/web).unlink()
    assert n_back(path) == 1 and read_web(path/web)


def read_web(file): return file.read_bytes()[:1] in b'<T{'


def test_what_vanishes_or_changes_while_at_work(messy, monkeypatch):
    path, planted = messy
    report = verify(path)
    gone, changed = planted.file[planted.fault == 'not_images'].iloc[:2]
    copy = next(r for r in report.rows if r[1] == 'near duplicate')
    (path/gone).unlink(); (path/changed).write_text('something else'); (path/copy[4].file).unlink()
    rename, locked = os.rename, planted.file[planted.fault == 'truncated'].iloc[0]
    def refuse(a, b):
        if Path(a) == path/locked: raise PermissionError(13, 'Permission denied')
        rename(a, b)
    monkeypatch.setattr(os, 'rename', refuse)
    report.fix()
    said = '\n'.join(report.problems)
    assert all(o in said for o in (gone, changed, copy[0].file, f'{locked} could not be moved (Permission denied)'))
    assert said in str(report)
    assert (path/copy[0].file).exists() and (path/changed).exists() and (path/locked).exists() and len(report.done) > 10
    assert look_at(path/'black/never.jpg').reason.startswith('not there')


def test_a_folder_that_cannot_be_changed(messy, monkeypatch):
    path, before = messy[0], state(messy[0])
    def refuse(*args, **kw): raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr(Path, 'mkdir', refuse)
    with pytest.raises(BearclfError, match=r'cannot be written \(Permission denied\), so nothing more was changed'):
        verify(path, fix=True)
    assert state(path) == before


@can_fork
@pytest.mark.parametrize('every', [7, pytest.param(1, marks=pytest.mark.exhaustive)], ids=['some', 'all'])
def test_killed_at_any_step_nothing_is_lost(every, messy):
    "A child dies by SIGKILL before and after each write to the history and each rename"
    path, _ = messy
    before, held, report = state(path), contents(path), verify(path)
    step, moved, died = 0, set(), True
    while died:
        died = killed_at(report.fix, step)
        assert contents(path) == held
        moved.add(len([o for o in (path/ASIDE).rglob('*') if o.is_file() and o.parent.name != HOME]))
        undo(path)
        assert state(path) == before, step
        step += every
    assert step >= 4*len([r for r in report.rows if r[3] != 'for you to decide']) and len(moved) > 10


@can_fork
@pytest.mark.parametrize('every', [21, pytest.param(4, marks=pytest.mark.exhaustive)], ids=['some', 'all'])
def test_an_undo_that_is_killed_goes_on(every, messy):
    path, _ = messy
    before, held, step, died = state(path), contents(path), 0, True
    while died:
        verify(path, fix=True)
        died = killed_at(lambda: undo(path), step)
        assert set(contents(path)) >= set(held)
        undo(path)
        assert state(path) == before, step
        step += every
    assert step > 40


def test_a_torn_line_in_the_history(messy):
    path, _ = messy
    before, report = state(path), verify(path, fix=True)
    with open(path/HOME/'history.jsonl', 'ab') as f: f.write(b'1,"black/0000')
    (path/'black'/'new.jpg').write_text('Too many requests')
    assert len(verify(path, fix=True).done) == 1 and n_back(path) == 1
    (path/'black'/'new.jpg').unlink()
    assert n_back(path) == len(report.done) and state(path) == before


@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'WEBP', 'AVIF', 'TIFF'])
@pytest.mark.parametrize('turn', [1, 6])
def test_no_place_and_no_name_stays(fmt, turn):
    from PIL.PngImagePlugin import PngInfo
    im, exif, text, b = draw_bear('grizzly', 3, 96).crop((0, 0, 96, 60)), Image.Exif(), PngInfo(), io.BytesIO()
    exif[0x0112], exif[0x013B] = turn, 'Masha Bear'
    exif.get_ifd(0x8825).update({1: 'N', 2: (43.0, 42.0, 10.1)})
    text.add_text('Author', 'Masha Bear', zip=False)
    im.save(b, fmt, exif=exif, comment=b'Masha Bear', xmp=b'<x>Masha Bear</x>', pnginfo=text)
    data = b.getvalue() + b'Masha Bear'
    assert fmt == 'TIFF' or Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825)
    kept, suffix, got = without_personal_data(data)
    assert b'Masha' not in kept and b'Exif' not in kept and not Image.open(io.BytesIO(kept)).getexif()
    assert got.size == read_photo(kept).size == ((96, 60) if turn == 1 else (60, 96))
    if fmt in ('JPEG', 'PNG') and turn == 1:
        assert read_photo(kept).tobytes() == read_photo(data).tobytes() == got.tobytes()


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_too_large_is_refused_before_it_is_decoded(monkeypatch):
    b = io.BytesIO(); Image.new('1', (20_000, 6_000)).save(b, 'PNG')
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda *a: pytest.fail('it was decoded'))
    with pytest.raises(PhotoError, match='too large'): without_personal_data(b.getvalue())


def test_one_against_twenty_thousand():
    rng, index = random.Random(1), HashIndex()
    hashes = [rng.getrandbits(576) for _ in range(20_000)]
    for i, o in enumerate(hashes): index.add(f'{o:0144x}', i)
    assert index.near(f'{hashes[7] ^ 7:0144x}') == [(7, 3)]


def test_the_real_mess(shared, tmp_path):
    "What `file`, `sha256sum` and somebody's eyes found in the 168 files"
    path = shutil.copytree(shared/'bears', tmp_path/'bears')
    before = state(path)
    report = verify(path)
    t, of = report.table, lambda finding: set(report.table.file[report.table.finding == finding])
    starts = {o: (path/o).read_bytes()[:4] for o in before if (path/o).is_file()}
    no_image = {o for o, b in starts.items() if b[:2] != b'\xff\xd8' and b != b'\x89PNG'}
    assert of('unreadable') == no_image and len(no_image) == 6
    fits = {'.jpg': b'\xff\xd8', '.jpeg': b'\xff\xd8', '.png': b'\x89P'}
    assert of('wrong extension') == {o for o, b in starts.items() if fits.get(Path(o).suffix) != b[:2]} - no_image
    assert len(of('wrong extension')) == 36
    assert list(t.what[t.finding == 'near duplicate']) == ['nearly the same as grizzly/00000036.jpg']
    assert of('near duplicate') == {'grizzly/00000137.jpg'}
    assert list(t.what[t.finding == 'same photo in two classes']) == ['same as black/00000015.jpg']
    assert of('same photo in two classes') == {'grizzly/00000148.jpg'}
    assert len(t) == 44 and report.sheet().width > 400
    assert len(report.fix().done) == 43 and not report.problems
    assert n_back(path) == 43 and state(path) == before
