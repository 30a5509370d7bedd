"What people and strangers do to manifest.csv, left_out.csv and bundles, and that nothing is lost, run or led outside"
import csv, io, os, random, re, struct, tracemalloc, zipfile
from pathlib import Path

import pytest

from bearclf.collect import search
from bearclf.collect.collect import LEFT_OUT, MANIFEST, bundle, collect
from bearclf.collect.search import ImageResult, search_engine
from bearclf.clean.decisions import Decisions
from bearclf.core import BearclfError
from bearclf.folder.moves import DELETE
from bearclf.practice.drawn import draw_bear
from bearclf.practice.web import practice_web

links = pytest.mark.skipif(os.name == 'nt', reason='links need rights there')
RISKY = re.compile(r'[-=+@\t\r＝＋－＠]')


# --- tables ---

def test_no_cell_is_run_and_all_come_back():
    from bearclf.core import as_it_was, defused
    r = random.Random(0)
    texts = [''.join(r.choices("'=+-@\t\r\n;, ＝0.5a\"", k=r.randint(0, 6))) for _ in range(5000)]
    for o in texts:
        assert as_it_was(defused(o)) == o
        for cell in re.split('[;\t]', defused(o)):
            assert not RISKY.match(cell) or re.fullmatch(r'[-+]?\d+([.,]\d+)*', defused(o))
    assert [defused(o) for o in ('-0.5', '+7', -.25, 3, '1,5')] == ['-0.5', '+7', '-0.250', '3', '1,5']
    assert len({defused(o) for o in texts}) == len(set(texts))


@pytest.mark.parametrize('separator', ',;')
def test_what_is_written_is_read(separator):
    from bearclf.core import Table, table_text
    r = random.Random(separator)
    for _ in range(200):
        rows = [[''.join(r.choices("a'=-;,\"\r\n ё\udcff\u2028", k=r.randint(0, 5))) for _ in 'abc'] for _ in range(4)]
        data = table_text(['a', 'b', 'c'], [['x', *o] for o in rows], separator).encode('utf-8', 'surrogateescape')
        t = Table(data.replace(b'a%sb' % separator.encode(), b'=x%sa%sb' % (2*(separator.encode(),)), 1), ('b',))
        assert [[o[c] for c in 'abc'] for o in t.rows] == rows and not t.odd and t.separator == separator
        assert Table(t.text().encode('utf-8', 'surrogateescape'), ('b',)).rows == t.rows


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('separator', ',;')
@pytest.mark.parametrize('code', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('last', [True, False])
def test_line_ends_marks_and_separators(end, separator, code, last):
    from bearclf.core import Table
    lines = ['file,mine,decision,mine', 'ё.jpg,a,,b', ',,,', '', '"x', '"a, b",,<Keep>,', 'z.jpg,,keep']
    text = end.join(lines).replace(',', separator) + end*last
    t = Table(text.encode(code), ('file', 'decision'))
    assert [o['file'] for o in t.rows] == ['ё.jpg', f'a{separator} b', 'z.jpg'] and t.numbers == [2, 6, 7]
    assert t.odd == [(5, ['x'], 'it has too few cells, 1 of 4')]
    assert Table(t.text().encode(), t.needed).rows == t.rows
    assert t.text().endswith('z.jpg,,keep,\nx\n'.replace(',', separator))


def test_cells_without_end():
    from bearclf.core import Table
    big = b'"' + b'x'*200_000
    with pytest.raises(BearclfError, match='more than 131,072 characters'): Table(b'a,b\n' + big, ('a',))
    with pytest.raises(BearclfError): Table(big, ('a',))
    t = Table(b'a,b\n1,"2\n' + b'3,4\n'*40_000, ('a', 'b'))  # all behind the mark would be one cell
    assert len(t.rows) == 40_001 and t.rows[0] == {'a': '1', 'b': '2'}


# --- folders that collect has filled ---

@pytest.fixture(scope='module')
def web():
    with practice_web(n=12, size=64, sites=4) as web: yield web


@pytest.fixture(autouse=True)
def fresh(web, tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr(search, 'ENGINES', dict(search.ENGINES))
    monkeypatch.setattr(search, '_next', {})
    web.log.clear()


def address(web, i): return f'{web.sites[0]}/good/teddy/{i}.jpg' if i < 99 else f'{web.sites[0]}/fault/dead/teddy-1.jpg'


def gather(web, dest, *numbers, n=None, kind='teddy', **facts):
    def planned(term, page, safe, web_):
        return [ImageResult(address(web, i), **facts) for i in numbers] if page == 1 else []
    search_engine(planned)
    return collect({kind: 'teddy bear'}, dest, n or len(numbers) or 1, engine='planned', allow_hosts=web.hosts,
                   cache_days=0)


def asked(web): return sorted(o.path for o in web.log if o.path.startswith('/good'))
def cells(file): return list(csv.reader(io.StringIO(Path(file).read_text(encoding='utf-8-sig'), newline='')))


def change(file, f, separator=','):
    "Let `f` change the cells of a table"
    b = io.StringIO()
    csv.writer(b, lineterminator='\n', delimiter=separator).writerows(f(cells(file)))
    Path(file).write_text(b.getvalue(), encoding='utf-8', newline='')


def outside(tmp_path):
    "All that lies not in the folder or the cache, with its contents"
    return {o: o.read_bytes() for o in tmp_path.rglob('*') if o.is_file() and not o.is_symlink()
            and not {tmp_path/'bears', tmp_path/'cache'} & set(o.parents)}


@pytest.fixture
def bears(web, tmp_path):
    gather(web, tmp_path/'bears', 1, 2, 3)
    web.log.clear()
    return tmp_path/'bears'


@pytest.mark.parametrize('name', ['manifest.csv', 'left_out.csv'])
@pytest.mark.parametrize('separator', ',;')
def test_a_column_of_ones_own_stays(web, bears, name, separator):
    if name == 'left_out.csv': gather(web, bears, 1, 2, 3, 99, n=4)  # what is called 99 is dead
    def f(t): return [['my notes', *t[0], '', '']] + [['=good', *o, f'n{i}', ''] for i, o in enumerate(t[1:])]
    change(bears/name, f, separator)
    before = cells(bears/name) if separator == ',' else [re.split(';', o[0]) for o in cells(bears/name)]
    gather(web, bears, 1, 2, 3, 4, n=4)
    file = io.StringIO((bears/name).read_text(encoding='utf-8'), newline='')
    now = list(csv.reader(file, delimiter=separator))
    assert now[0] == before[0] and len(before) > 1
    assert [o for o in now if "'=good" in o] == [["'=good", *o[1:]] for o in before[1:]]


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('last', [True, False])
def test_a_manifest_as_an_editor_saves_it(web, bears, end, last):
    text = (bears/'manifest.csv').read_text(encoding='utf-8')
    (bears/'manifest.csv').write_bytes(b'\xef\xbb\xbf' + (text if last else text[:-1]).replace('\n', end).encode())
    res = gather(web, bears, n=3)  # nothing is found any more
    assert (bears/'manifest.csv').read_text(encoding='utf-8') == text and res.table.teddy['in the folder'] == 3
    assert not [o for o in res.notes if 'row' in o] and not web.log


@pytest.mark.parametrize('column, value, says', [
    ('rank', '', 'rank is empty'), ('rank', '²', "rank is '²'"), ('rank', '-1', "rank is '-1'"),
    ('sha256', '', 'sha256 is empty'), ('sha256', 'abc', "sha256 is 'abc'"), ('title', 'a\nb', 'title is'),
    ('perceptual_hash', 'x'*144, 'perceptual_hash is'), ('class', '', 'class is empty'),
    ('class', '../x', 'cannot be the name of a folder'), ('file', '', 'file is empty'),
    ('address', '', 'address is empty'), ('file', '../../secret.jpg', "has parts that are empty, '.' or '..'"),
    ('file', '/etc/passwd', 'does not begin in the folder'), ('file', 'C:\\x.jpg', 'does not begin in the folder'),
    ('file', 'a'*5000, 'no name of a file')])
def test_a_row_that_makes_no_sense(web, bears, column, value, says):
    def f(table):
        table[2][MANIFEST.index(column)] = value
        return [[*o, 'mine'] for o in table]
    change(bears/'manifest.csv', f)
    before = cells(bears/'manifest.csv')
    for _ in range(2):
        res = gather(web, bears, n=3)
        now = cells(bears/'manifest.csv')
        assert now == [before[0], before[1], before[3], before[2]], 'it stands at the end, as it was'
        said, = [o for o in res.notes if o.startswith('manifest.csv, row 4: ')]
        assert says in said and said.endswith('It is left alone.') and '\n' not in said


def test_half_a_row_is_none_until_its_photo_is_there_again(web, bears):
    data = (bears/'manifest.csv').read_bytes()
    start = data[:-1].rindex(b'\n') + 1
    for cut in start + 30, start + 100:
        (bears/'manifest.csv').write_bytes(data[:cut])
        res = gather(web, bears, n=3)
        assert [o for o in res.notes if 'row 4: it has too few cells' in o]
        assert cells(bears/'manifest.csv')[3] == next(csv.reader([data[start:cut].decode()])), 'it may be yours'
        res = gather(web, bears, 1, 2, 3)
        assert [o[4] for o in cells(bears/'manifest.csv')[1:]] == [address(web, i) for i in (1, 2, 3)]
        assert not [o for o in res.notes if 'row' in o]


def test_a_quotation_mark_that_nobody_closed(web, bears):
    table = (bears/'manifest.csv').read_text(encoding='utf-8').splitlines()
    table[1] = '"' + table[1]
    (bears/'manifest.csv').write_text('\n'.join(table), encoding='utf-8')
    res = gather(web, bears, n=3)
    assert [o for o in res.notes if 'manifest.csv, row 4' in o] and len(cells(bears/'manifest.csv')) == 4
    assert [o[4] for o in cells(bears/'manifest.csv')[1:3]] == [address(web, i) for i in (2, 3)]


@pytest.mark.skipif(os.name == 'nt', reason='a limit of Unix')
def test_a_disk_that_has_room_for_half_a_row(tmp_path):
    import resource
    from bearclf.collect.collect import _Table
    t, before = _Table(tmp_path/'left_out.csv', LEFT_OUT), resource.getrlimit(resource.RLIMIT_FSIZE)
    t.append(**{'class': 'teddy', 'rank': 1, 'address': 'x'})
    data = t.file.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) + 20, before[1]))
    try:
        with pytest.raises(OSError, match='No space left'): t.append(**{'class': 'teddy', 'rank': 2, 'address': 'y'*99})
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert t.file.read_bytes() == data and len(t.rows) == 1


STRANGE = dict(title='=HYPERLINK("http://x.example","bear")', creator='@SUM(1)', licence='CC BY 4.0', page='+1+1',
               attribution='-cmd|calc\r\n=2')

def test_no_cell_of_a_strangers_is_run(web, tmp_path):
    bears = tmp_path/'bears'
    gather(web, bears, 1, 99, n=2, **STRANGE)
    packed = bundle(bears, tmp_path/'b.zip')
    with zipfile.ZipFile(packed) as z: z.extract('manifest.csv', tmp_path/'packed')
    collect(packed, tmp_path/'student', allow_hosts=web.hosts)
    for folder in bears, tmp_path/'packed', tmp_path/'student':
        assert len(cells(folder/'manifest.csv')) == 2
        assert not [c for file in folder.glob('*.csv') for o in cells(file) for c in o if RISKY.match(c)]
    assert len(cells(bears/'left_out.csv')) == 2
    assert cells(bears/'manifest.csv')[1][5:7] == ["'+1+1", "'=HYPERLINK(\"http://x.example\",\"bear\")"]
    row = lambda folder: cells(folder/'manifest.csv')[1][:-1]
    assert row(bears) == row(tmp_path/'student') and "''" not in ''.join(row(bears))
    gather(web, bears, 1, 99, n=2, **STRANGE)
    assert row(bears) == row(tmp_path/'student'), 'once is enough'


# --- nothing is written or read outside ---

@links
@pytest.mark.parametrize('name', ['teddy', 'manifest.csv', 'left_out.csv'])
def test_links_in_the_folder(web, tmp_path, name):
    bears, away = tmp_path/'bears', tmp_path/'away'
    for o in bears, away: o.mkdir()
    header = ','.join(MANIFEST if name == 'manifest.csv' else LEFT_OUT) + '\n'
    (away/'x').write_text(header); (away/'.0123456789ab.jpg').write_text('mine')
    (bears/name).symlink_to(away if name == 'teddy' else away/'x')
    before = outside(tmp_path)
    with pytest.raises(BearclfError, match='is a link') as e: gather(web, bears, 1)
    assert outside(tmp_path) == before and '\n' not in str(e.value) and not web.log
    if name == 'manifest.csv':
        with pytest.raises(BearclfError, match='is a link'): bundle(bears, tmp_path/'b.zip')
        assert outside(tmp_path) == before


def sparse(file):
    with open(file, 'wb') as f: f.truncate(2 << 30)


@pytest.mark.parametrize('name', ['manifest.csv', 'left_out.csv'])
def test_tables_that_are_none(web, tmp_path, name):
    bears = tmp_path/'bears'
    bears.mkdir()
    makes = [(sparse, 'it has 2,147 MB'), (Path.mkdir, 'is a link, a folder or a device')]
    for make, says in makes + [(os.mkfifo, 'is a link, a folder or a device')]*hasattr(os, 'mkfifo'):
        make(bears/name)
        tracemalloc.start()
        with pytest.raises(BearclfError, match=says): gather(web, bears, 1)
        if name == 'manifest.csv':
            with pytest.raises(BearclfError, match=says): bundle(bears, tmp_path/'b.zip')
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6 and not list(tmp_path.glob('*.zip')) and not web.log
        (bears/name).rmdir() if (bears/name).is_dir() else (bears/name).unlink()


def test_a_huge_file_in_a_class_folder(web, bears):
    sparse(bears/'teddy/own.jpg'); sparse(bears/cells(bears/'manifest.csv')[1][0])
    tracemalloc.start()
    gather(web, bears, 1, 2, 3, 4, n=4)
    gather(web, bears, 1, kind='other')  # it has the photo in the manifest, and must fetch it all the same
    bundle(bears, bears.parent/'b.zip', everything=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6 and (bears.parent/'b.zip').stat().st_size < 1e6


@links
def test_a_row_reads_no_photo_outside(web, bears, tmp_path):
    "What stands for the address of another class's photo is taken from the folder, and from there only"
    draw_bear('black', 1, 64).save(tmp_path/'secret.png')
    (bears/'out').symlink_to(tmp_path); (bears/'teddy/link.png').symlink_to(tmp_path/'secret.png')
    secrets = ['../secret.png', str(tmp_path/'secret.png'), 'out/secret.png', 'teddy/link.png']
    def f(table):
        for i, name in enumerate(secrets): table.append([name, *table[1][1:4], address(web, 5 + i), *table[1][5:]])
        return table
    change(bears/'manifest.csv', f)
    res = gather(web, bears, 5, 6, 7, 8, kind='other')
    assert len([o for o in res.notes if 'It is left alone' in o]) == 4
    assert asked(web) == [f'/good/teddy/{i}.jpg' for i in (5, 6, 7, 8)]
    assert not list((bears/'other').glob('*.png')) and len(list((bears/'other').iterdir())) == 4


# --- bundles ---

@links
def test_only_what_lies_in_the_folder_is_packed(web, tmp_path, capsys):
    bears = tmp_path/'bears'
    gather(web, bears, 1, licence='CC0')
    for o in tmp_path/'secret_key', tmp_path/'key': o.write_text('secret')
    (bears/'out').symlink_to(tmp_path); (bears/'teddy/link.jpg').symlink_to(tmp_path/'key')
    names = ['../secret_key', 'teddy/../../secret_key', str(tmp_path/'secret_key'), 'out/secret_key', 'teddy/link.jpg',
             'C:\\secret_key', 'C:/secret_key', '', '.']
    (bears/'C:').mkdir(); (bears/'C:/secret_key').write_text('secret'); (bears/'C:\\secret_key').write_text('secret')
    change(bears/'manifest.csv', lambda t: t + [[o, *t[1][1:]] for o in names])
    before = (bears/'manifest.csv').read_bytes()
    with zipfile.ZipFile(bundle(bears, tmp_path/'b.zip', everything=True)) as z:
        assert len(z.namelist()) == 3 and not [o for o in z.namelist() if b'secret' in z.read(o)]
    said = capsys.readouterr().out
    assert 'b.zip: 1 photos, 1 of them' in said and 'manifest.csv, row 3: ' in said and '4 more rows' in said
    assert (bears/'manifest.csv').read_bytes() == before, 'a bundle changes nothing in the folder'


def other_zip(file):
    with zipfile.ZipFile(file, 'w') as z:
        for name in 'ATTRIBUTION.txt', 'mine.txt': z.writestr(name, '')
        z.writestr('manifest.csv', ','.join(MANIFEST) + '\n')

@pytest.mark.parametrize('make', [lambda o: o.write_text('precious'), lambda o: zipfile.ZipFile(o, 'w').close(),
                                  other_zip, lambda o: o.mkdir(), lambda o: o.symlink_to(o.with_name('none')),
                                  lambda o: os.mkfifo(o)])
def test_a_bundle_replaces_nothing_else(bears, tmp_path, make):
    try: make(tmp_path/'b.zip')
    except (AttributeError, OSError): pytest.skip('Windows has no such thing')
    before = outside(tmp_path), os.lstat(tmp_path/'b.zip').st_ino
    for o in 'b.zip', 'b':
        with pytest.raises(BearclfError, match='is there already, and no bundle that bearclf wrote. Name another file'):
            bundle(bears, tmp_path/o)
    assert (outside(tmp_path), os.lstat(tmp_path/'b.zip').st_ino) == before


def test_a_bundle_replaces_an_older_one_and_says_so(bears, tmp_path, capsys):
    (tmp_path/'precious.docx').write_text('mine')
    assert bundle(bears, tmp_path/'precious.docx') == tmp_path/'precious.docx.zip'
    assert (tmp_path/'precious.docx').read_text() == 'mine' and 'replaces' not in capsys.readouterr().out
    assert bundle(bears, tmp_path/'precious.docx.zip', everything=True) == tmp_path/'precious.docx.zip'
    assert 'It replaces the bundle that was there.' in capsys.readouterr().out
    assert len(zipfile.ZipFile(tmp_path/'precious.docx.zip').namelist()) == 5
    assert bundle(bears, tmp_path/'v1.2').name == 'v1.2.zip'


@pytest.fixture
def crafted(web, bears, tmp_path):
    "A bundle whose rows and members are a stranger's"
    def make(f, **members):
        table = f(cells(bears/'manifest.csv'))
        csv.writer(b := io.StringIO()).writerows(table)
        with zipfile.ZipFile(tmp_path/'b.zip', 'w') as z:
            z.writestr('manifest.csv', b.getvalue()); z.writestr('ATTRIBUTION.txt', 'x')
            for o in sorted(bears.glob('teddy/*')): z.write(o, f'teddy/{o.name}')
            for name, data in members.items(): z.writestr(name, data)
        return tmp_path/'b.zip'
    return make


def taken(web, file, dest):
    res = collect(file, dest, allow_hosts=web.hosts)
    return res, sorted(o.relative_to(dest).as_posix() for o in dest.rglob('*') if o.is_file())


def test_a_bundle_plants_nothing_outside(web, crafted, tmp_path):
    odd = [('file', '../x.jpg'), ('file', '/tmp/x.jpg'), ('file', 'C:\\x.jpg'), ('class', '../x'),
           ('class', '/x'), ('rank', ''), ('sha256', ''), ('address', '')]
    def f(t):
        for column, value in odd:
            t.append([value if c == column else o for c, o in zip(MANIFEST, t[1])])
        return [[*o, 'more'] for o in t] + [['half', 'a row']]
    file = crafted(f, **{'../x.jpg': 'planted', '/tmp/x.jpg': 'planted'})
    before = {o for o in tmp_path.rglob('*') if tmp_path/'cache' not in o.parents}
    res, files = taken(web, file, tmp_path/'deep/student')
    assert len(files) == 5 and res.table.teddy['in the folder'] == 3 and not web.log
    new = {o for o in tmp_path.rglob('*') if tmp_path/'cache' not in o.parents} - before
    assert {o.relative_to(tmp_path).parts[0] for o in new} == {'deep'}
    said = [o for o in res.notes if o.startswith('manifest.csv in b.zip')]
    assert len(said) == 6 and 'row 5' in said[0] and '4 more rows' in said[5]


def test_members_that_are_not_what_their_row_says(web, crafted, tmp_path):
    def f(t):
        t[1][0], t[2][0], t[3][0] = 'manifest.csv', t[3][0], 'ATTRIBUTION.txt'
        return t
    res, files = taken(web, crafted(f), tmp_path/'student')
    assert 'manifest.csv' in files and 'ATTRIBUTION.txt' not in files and not list((tmp_path/'student/teddy').iterdir())
    assert cells(tmp_path/'student/manifest.csv')[1:] == [] and len(cells(tmp_path/'student/left_out.csv')) == 4


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_members_that_stand_twice_and_members_of_2_gb(web, crafted, bears, tmp_path):
    first, second = (o[0] for o in cells(bears/'manifest.csv')[1:3])
    file = crafted(lambda t: t, **{first: 'another', f'{first}/x': 'nested', f'../{first}': 'outside'})
    data = bytearray(file.read_bytes())
    at = data.index(b'PK\x01\x02', data.index(b'PK\x01\x02') + 4)
    while second.encode() not in data[at+46:at+46+len(second)]: at = data.index(b'PK\x01\x02', at + 4)
    data[at+24:at+28] = struct.pack('<I', 2**31 - 1)  # what it says of its size
    file.write_bytes(data)
    res, files = taken(web, file, tmp_path/'student')
    assert sorted(o for o in files if o.startswith('teddy/')) == sorted(o[0] for o in cells(bears/'manifest.csv')[2:])
    assert asked(web) == ['/good/teddy/2.jpg']
    assert len(cells(tmp_path/'student/left_out.csv')) == 2, 'the other one of the first name is no photo'


def test_bundles_that_are_none(web, tmp_path):
    sparse(tmp_path/'b.zip')
    tracemalloc.start()
    with pytest.raises(BearclfError, match='is not a bundle'): collect(tmp_path/'b.zip', tmp_path/'student')
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path/'fifo.zip')
        with pytest.raises(BearclfError, match='is not a bundle'): collect(tmp_path/'fifo.zip', tmp_path/'student')
    with zipfile.ZipFile(tmp_path/'empty.zip', 'w') as z: z.writestr('manifest.csv', ','.join(MANIFEST))
    with pytest.raises(BearclfError, match='names no photo'): collect(tmp_path/'empty.zip', tmp_path/'student')
    assert not (tmp_path/'student').exists()


def test_a_file_that_the_person_changed_is_not_replaced(web, bears):
    "Its row makes no sense any more, so its photo is fetched again, and goes beside it"
    name = cells(bears/'manifest.csv')[1][0]
    (bears/name).write_text('cropped by me')
    change(bears/'manifest.csv', lambda t: [o[:3] + [''] + o[4:] if o[0] == name else o for o in t])
    sha = cells(bears/'manifest.csv')[1][MANIFEST.index('sha256')]
    (bears/f'teddy/{sha[:20]}.jpg').write_text('this one too')
    gather(web, bears, 1, 2, 3)
    assert (bears/name).read_text() == 'cropped by me' and (bears/f'teddy/{sha[:20]}.jpg').read_text() == 'this one too'
    assert (bears/f'teddy/{sha[:20]}-2.jpg').exists()


# --- photos that were renamed ---

def test_photos_are_found_whoever_has_renamed_them(web, tmp_path, capsys):
    "By `verify`, by a decision, by a person; one that was set aside is not taken for new"
    dest = tmp_path/'bears'
    gather(web, dest, 0, 1, 2, 3, kind='black', licence='CC0', creator='Masha')
    gather(web, dest, 4, 5, 6, 7, kind='teddy', licence='CC0')
    rows = list(csv.DictReader(open(dest/'manifest.csv', encoding='utf-8')))
    black = [o['file'] for o in rows if o['class'] == 'black']
    d = Decisions(dest)
    d.decide_all({black[0]: 'teddy', black[1]: DELETE})
    (dest/black[2]).rename(dest/'black/mine.jpg')
    assert not d.apply().problems
    bundle(dest, tmp_path/'b.zip', everything=True)
    with zipfile.ZipFile(tmp_path/'b.zip') as z:
        packed = {o['sha256']: o for o in csv.DictReader(io.StringIO(z.read('manifest.csv').decode()))}
        names = set(z.namelist())
    sha = {o['file']: o['sha256'] for o in rows}
    moved = packed[sha[black[0]]]
    assert moved['class'] == 'teddy' and moved['file'].startswith('teddy/') and moved['file'] in names
    assert moved['licence'] == next(o['licence'] for o in rows if o['file'] == black[0])
    assert packed[sha[black[2]]]['file'] == 'black/mine.jpg' and sha[black[1]] not in packed and len(packed) == 7
    web.log.clear()
    again = gather(web, dest, 0, 1, 2, 3, kind='black')
    assert int(again.table.loc['in the folder', 'black']) == 2 and not asked(web), 'nothing comes anew'
    assert int(gather(web, dest, 4, 5, 6, 7, kind='teddy').table.loc['in the folder', 'teddy']) == 5 and not asked(web)
