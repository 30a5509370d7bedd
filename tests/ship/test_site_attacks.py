"What comes from elsewhere is published as text, or not at all: names, photos to try, files that came cut short"
import json, os, sys

import pytest, yaml
from PIL import Image

from helpers import free_port, small_disk
from test_hosted import files, held, host, is_active, other, quick, until  # noqa: F401 (fixtures, too)
from bearclf.core import BearclfError
from bearclf.ship import site
from bearclf.ship.hosted import _manifest, _readme, write_folder
from bearclf.ship.site import example_photos, write_site

ODD = '\ud800</script>\x7f\x85\u2028"\n---\nsdk: docker\n'


def test_a_title_adds_no_setting():
    "Whatever is in it: a Space reads the same settings"
    _, head, rest = _readme(ODD).decode().split('---\n', 2)
    said = yaml.safe_load(head)
    assert said['sdk'] == 'static' and '</script>' in said['title'] and '<' not in rest
    assert json.loads(_manifest(ODD, []))['name'] == ODD

def test_a_class_that_is_no_unicode_is_written(demo_model, tmp_path, monkeypatch):
    facts, onnx = site.portable_parts(demo_model)
    monkeypatch.setattr(site, 'portable_parts', lambda _: (facts | dict(classes=[ODD, *facts['classes'][1:]]), onnx))
    page = write_site(demo_model, tmp_path/'odd.html', title=ODD).read_text(encoding='utf-8')
    data = page.split('id="bearclf-data">')[1].split('</script>')[0]
    assert json.loads(data)['facts']['classes'][0] == ODD == json.loads(data)['title']

def test_examples_tell_nothing_but_the_picture(tmp_path):
    "Neither where it was taken nor a comment; no photo of another folder, and none is lost because of its name"
    exif, photo = Image.Exif(), Image.effect_noise((90, 60), 90)
    exif[0x010f] = 'PRIVATE'
    (folder := tmp_path/'bears').mkdir()
    for file in folder/'a.jpg', tmp_path/'a.jpg':
        photo.save(file, exif=exif, comment=b'PRIVATE', xmp=b'<PRIVATE/>', icc_profile=b'PRIVATE'*30)
    if sys.platform != 'win32': (folder/'b.jpg').symlink_to(tmp_path/'a.jpg')
    found = example_photos(folder)
    assert [*found] == ['a.jpg'] and b'PRIVATE' not in found['a.jpg']
    assert [*example_photos([folder/'a.jpg', tmp_path/'a.jpg'])] == ['a.jpg', '2-a.jpg']

@pytest.mark.skipif(sys.platform != 'linux', reason='names of files are Unicode there')
def test_examples_with_names_that_are_none(tmp_path):
    Image.effect_noise((90, 60), 90).save(tmp_path/'x.jpg')
    os.rename(tmp_path/'x.jpg', os.fsencode(tmp_path) + b'/\xff\n.jpg')
    assert [*example_photos(tmp_path)] == ['\\udcff\n.jpg']


# --- the folder

def test_a_model_does_not_go_online_with_its_page(demo_model):
    before = held(demo_model)
    with pytest.raises(BearclfError, match='is the folder of the model'): write_folder(demo_model, demo_model)
    assert held(demo_model) == before

def test_a_link_with_a_name_of_ours_leads_to_what_stays(quick, demo_model, files, tmp_path):  # noqa: F811
    (folder := tmp_path/'site').mkdir()
    (mine := tmp_path/'photo.jpg').write_bytes(b'mine')
    try:
        for name in next(o for o in files if '-ort.' in o), 'bearclf-model.0123456789ab.bin', 'README.md', '.nojekyll':
            (folder/name).symlink_to(mine)
    except OSError: pytest.skip('no links can be made here')
    write_folder(demo_model, folder)
    assert mine.read_bytes() == b'mine' and (folder/'README.md').is_symlink()

def test_a_folder_that_is_a_disk_of_its_own(quick, demo_model, files, tmp_path):  # noqa: F811
    with small_disk(tmp_path/'disk', 60_000) as disk:
        write_folder(demo_model, disk)
        assert held(disk) == files
    with small_disk(tmp_path/'full', 6_000) as disk:
        with pytest.raises(OSError): write_folder(demo_model, disk/'site')
        assert not [*disk.iterdir()]


KEPT = '''async () => {
    const { installing, waiting, active } = await navigator.serviceWorker.register('worker.js');
    const it = installing || waiting || active;
    return new Promise(done => {
        const look = () => /activated|redundant/.test(it.state) && done(it.state);
        it.addEventListener('statechange', look);
        look() }) }'''

def test_what_came_cut_short_is_not_kept(browser, files, tmp_path):  # noqa: F811
    "Beside pages of others, whose caches nobody touches"
    (folder := tmp_path/'bears').mkdir()
    for k, v in files.items(): (folder/k).write_bytes(v)
    cut = next(folder.glob('bearclf-model.*'))
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path/'index.html').write_text('<p>Another page')
    with host(tmp_path, free_port()) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        others = ['another app', f'bearclf {url}/ bearclf-page.html', f'bearclf {url}/bears2/ bearclf-page.html']
        page.evaluate('all => Promise.all(all.map(o => caches.open(o)))', others)
        page.goto(f'{url}/bears/')
        assert page.evaluate(KEPT) == 'redundant'
        until(page, f'async () => (await caches.keys()).length === {len(others)}')
        cut.write_bytes(files[cut.name])
        page.goto(f'{url}/bears/?again')
        is_active(page)
        kept = page.evaluate('caches.keys()')
        assert {*others} < {*kept} and len(kept) == len(others) + 1
        context.close()
