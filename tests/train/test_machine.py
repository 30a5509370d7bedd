"A GPU that cannot compute, packages that are missing or broken, and a network that is not there"
import platform, re, socket, sys

import psutil, pytest

from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.train import machine
from bearclf.train.data import photo_dls
from bearclf.train.features import fit_head, precomputed_learner
from bearclf.train.learner import fit_photos, train_photos
from fastai.vision.all import (ImageDataLoaders, Resize, aug_transforms, default_device, defaults, error_rate, resnet18,
                               torch, vision_learner)
from helpers import python

NO_KERNEL = 'CUDA error: no kernel image is available for execution on the device'


@pytest.fixture
def p100(monkeypatch):
    "What Kaggle's P100 is to a new torch: all answers are those of a GPU, and the first operation dies"
    says = dict(is_available=True, current_device=0, device_count=1, get_device_name='Tesla P100-PCIE-16GB',
                get_device_capability=(6, 0), get_arch_list=['sm_75', 'sm_90'], is_bf16_supported=True)
    for name, answer in says.items(): monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    to = torch.Tensor.to
    def dies(self, *args, **kw):
        if 'cuda' in str([*args, *kw.values()]): raise RuntimeError(f'{NO_KERNEL}\nCUDA kernel errors might be ...')
        return to(self, *args, **kw)
    monkeypatch.setattr(torch.Tensor, 'to', dies)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    monkeypatch.setattr(defaults, 'use_cuda', None)
    machine._problem.cache_clear()
    assert default_device().type == 'cuda'
    yield
    machine._problem.cache_clear()


@pytest.fixture
def bears(tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    return tmp_path/'bears'


def plain_learner(path):
    "On the GPU, which fastai itself would have tried by now"
    dls = ImageDataLoaders.from_folder(path, valid_pct=.2, item_tfms=Resize(64), batch_tfms=aug_transforms(), bs=4,
                                       num_workers=0, device='cpu')
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=error_rate).to_fp16()
    dls.device = torch.device('cuda', 0)
    return learn


def one_sentence(capsys):
    said = [o for o in capsys.readouterr().out.splitlines() if 'first operation fails' in o]
    assert len(said) == 1, said
    return said[0]


def test_training_goes_on_on_the_processor(p100, bears, capsys):
    learn = train_photos(bears, 'resnet18', 1, 64, pretrained=False, num_workers=0)
    said = one_sentence(capsys)
    assert all(o in said for o in ('Tesla P100', 'compute capability 6.0', NO_KERNEL, 'sm_75', 'GPU T4 x2'))
    assert learn.dls.device.type == 'cpu' == next(learn.model.parameters()).device.type and learn.recorder.values
    photo_dls(bears, 64, num_workers=0)
    assert 'first operation' not in capsys.readouterr().out, 'once is enough'


def test_a_learner_of_plain_fastai_comes_along(p100, bears, capsys):
    learn = plain_learner(bears)
    fit_photos(learn, 1)
    one_sentence(capsys)
    assert learn.dls.device.type == 'cpu' and learn.recorder.values


def test_the_quick_way_as_well(p100, bears, capsys):
    learn = precomputed_learner(bears, 'efficientnet_lite0', 64, num_workers=0)
    assert learn.dls.device.type == 'cpu' == next(learn.model.parameters()).device.type
    one_sentence(capsys)


def test_features_of_a_learner_of_plain_fastai(p100, bears, capsys):
    fit_head(plain_learner(bears))
    one_sentence(capsys)


def test_a_device_that_was_named_is_the_one_or_none(p100, bears, monkeypatch):
    with pytest.raises(BearclfError, match='Tesla P100.*no kernel image.*T4'): photo_dls(bears, device='cuda')
    with pytest.raises(BearclfError, match="There is no device 'gpu'"): photo_dls(bears, device='gpu')
    assert photo_dls(bears, 64, device='cpu', num_workers=0).device == 'cpu' and default_device().type == 'cuda'


@pytest.mark.parametrize('gradient, why', [
    (lambda w: w*float('nan'), 'numbers are wrong'), (lambda w: w + 1, 'numbers are wrong'), (lambda w: w + 1e-4, '')])
def test_numbers_that_are_wrong(gradient, why, monkeypatch):
    right = machine._gradient('cpu')
    monkeypatch.setattr(machine, '_gradient', lambda device: right if device == 'cpu' else gradient(right))
    assert why in machine._trial('mps') and bool(why) == bool(machine._trial('mps'))


def test_a_driver_that_cannot_even_say_which_device(bears, monkeypatch, capsys):
    def dies(): raise RuntimeError('CUDA unknown error\nmore')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', dies)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    monkeypatch.setattr(defaults, 'use_cuda', None)
    assert photo_dls(bears, 64, num_workers=0).device.type == 'cpu'
    assert 'CUDA unknown error' in one_sentence(capsys)


def test_the_look_costs_no_randomness_and_works_in_any_mode():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch.inference_mode(): assert machine._trial('cpu') == ''
    with torch.no_grad(): assert machine._trial('cpu') == ''
    assert before.equal(torch.get_rng_state())


# --- packages

WITHOUT = '''
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, *_):
        if name.split('.')[0] in {names}: raise ImportError(f'{{name}} is broken, undefined symbol')
sys.meta_path.insert(0, Missing())
sys.argv = ['bearclf', 'doctor']
from bearclf.__main__ import main
sys.exit(main())
'''

@pytest.mark.parametrize('names', [['torch'], ['PIL', 'fastcore', 'psutil', 'platformdirs'], ['sklearn']], ids=str)
def test_the_doctor_works_where_others_do_not(names):
    said = python(WITHOUT.format(names=names))
    name = {'PIL': 'pillow', 'sklearn': 'bearclf'}.get(names[0], names[0])
    assert re.search(rf'{name} .*cannot be imported \({names[0]} is broken', ' '.join(said.split()))
    assert said.count('cannot be imported') == 1, 'those that need it are not blamed for it'


def test_packages_that_are_missing_or_too_old(monkeypatch):
    needed = dict(fastai=('99.1', False), bears=('1.0', False), ddgs_of_old=('9', True), imagehash=('4', True))
    monkeypatch.setattr(machine, '_needed', lambda: needed)
    monkeypatch.setattr(machine, '_imported', lambda module: pytest)
    advice = machine._packages()[1]
    assert any('fastai 2' in o and 'too old: pip install --upgrade "fastai>=99.1"' in o for o in advice)
    assert 'bears is not installed: pip install "bears>=1.0"' in advice
    assert any(o.startswith('ddgs_of_old is not installed') for o in advice)
    assert not any('imagehash' in o for o in advice)


def test_what_is_needed_is_what_the_metadata_say():
    needed = machine._needed()
    assert needed['pillow'] == ('12.3', False) and needed['torch'] == ('2.6', True) and needed['ddgs'] == ('9', True)
    assert 'pytest' not in machine._needed()


def test_a_home_is_nobodys_business(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path/'jane.doe'))
    monkeypatch.delenv('BEARCLF_CACHE', raising=False)
    said = str(machine.doctor())
    assert 'jane' not in said and '~/.cache' in said.replace('Library/Caches', '.cache')


@pytest.mark.parametrize('look', machine._LOOKS)
def test_a_look_that_fails_is_no_reason_not_to_have_the_others(look, monkeypatch):
    def dies(): raise OSError('no')
    monkeypatch.setattr(machine, '_LOOKS', {o: dies if o == look else lambda: ('fine', []) for o in machine._LOOKS})
    assert machine.doctor().rows == {o: 'cannot be looked at (no)' if o == look else 'fine' for o in machine._LOOKS}


def test_low_disk_and_memory_are_said_once_and_only_then(bears, monkeypatch, capsys):
    machine._begin.cache_clear()
    photo_dls(bears, 64, num_workers=0)
    assert 'Only' not in capsys.readouterr().out
    machine._begin.cache_clear()
    monkeypatch.setattr(machine, '_memory', lambda: (3e8, 8e9))
    monkeypatch.setattr(machine, '_free', lambda folder: 2e8)
    for _ in range(2): photo_dls(bears, 64, num_workers=0)
    said = capsys.readouterr().out
    assert said.count('Only 0.3 GB of memory') == said.count('Only 0.2 GB are free on the disk') == 1
    machine._begin.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other C libraries do as they like')
def test_memory_is_given_back_when_all_is_done_and_not_after_each_batch():
    before, kept, back = map(int, python("""
import resource, torch
from bearclf.train.machine import give_memory_back, usable_device
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): torch.zeros(25, 10**6)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = pages()
usable_device('cpu')
pages()
kept = pages()
give_memory_back()
print(before, kept, pages())
""").split()[-3:])
    assert kept < before/20 < back < before/5


# --- widgets

def test_a_page_that_was_open_before_anywidget(monkeypatch):
    monkeypatch.setattr(machine, '_in_kernel', lambda: True)
    for at, known in (0, True), (2e10, False):
        monkeypatch.setattr(machine, '_installed_at', lambda _: at)
        assert bool(machine.widgets_unknown()) != known
    monkeypatch.setitem(sys.modules, 'google.colab', sys)
    assert not machine.widgets_unknown(), 'Colab loads widgets by itself'


def test_what_was_loaded_before_it_was_replaced(monkeypatch):
    began = psutil.Process().create_time()
    monkeypatch.setattr('PIL.__version__', '9.5.0')
    for at, said in (began - 60, False), (began + 60, True):
        monkeypatch.setattr(machine, '_installed_at', lambda _: at)
        assert ('pillow 9.5.0 is loaded' in machine.restart_needed().lower()) == said
    monkeypatch.setattr('PIL.__version__', (9, 5))
    assert 'illow' not in machine.restart_needed(), 'a module may say it in a way of its own'
    monkeypatch.undo()
    assert machine.restart_needed() == ''


# --- the network

@pytest.fixture
def connections(monkeypatch):
    "Addresses that are connected to, while nobody answers"
    made = []
    def refused(address, *_, **__): made.append(address); raise ConnectionRefusedError(111, 'refused')
    monkeypatch.setattr(socket, 'create_connection', refused)
    for o in 'http_proxy', 'https_proxy', 'all_proxy', 'no_proxy':
        for name in o, o.upper(): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, port, *_, **__: [(2, 1, 6, '', (host, port))])
    return made


def test_a_host_is_asked_once_each_address(connections):
    assert not machine.reachable('https://weights.example/x') and connections == [('weights.example', 443)]


def test_the_way_leads_through_a_proxy(connections, monkeypatch):
    monkeypatch.setenv('https_proxy', 'http://proxy.school.example:3128')
    monkeypatch.setenv('no_proxy', 'near.example')
    for o in 'weights.example', 'near.example': machine.reachable(f'https://{o}/x')
    assert connections == [('proxy.school.example', 3128), ('near.example', 443)]


def test_a_firewall_that_says_nothing(connections, monkeypatch):
    import threading
    end = threading.Event()
    def silent(*_, **__):
        end.wait(9)
        raise TimeoutError
    for o in 'create_connection', 'getaddrinfo':
        monkeypatch.setattr(socket, o, silent)
        assert not machine.reachable('https://weights.example', .05)
    end.set()


@pytest.mark.parametrize('says, there', [(b'', False), (b'nonsense', False), (b'HTTP/1.0 403 No\r\n\r\n', True),
                                         (b'HTTP/1.0 200 OK\r\n\r\n', True)])
def test_who_takes_a_connection_has_to_answer(says, there, monkeypatch):
    import threading
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with socket.create_server(('127.0.0.1', 0)) as server:
        def serve():
            server.accept()[0].close()  # the first only looks whether anybody is there
            with server.accept()[0] as talk: talk.recv(1000); talk.sendall(says)
        threading.Thread(target=serve, daemon=True).start()
        assert machine.answers(f'http://127.0.0.1:{server.getsockname()[1]}/weights') == there


def test_the_engines_on_request():
    from bearclf.practice.web import practice_web
    with practice_web(n=20, size=16) as web:
        said = machine.doctor(online=True, **web.reach)
        assert 'openverse: answers' in said.rows['engines'] and 'No search engine' not in str(said)
    said = machine.doctor(online=True, proxy='http://127.0.0.1:9')
    assert 'openverse: not reached' in said.rows['engines'] and 'No search engine answers' in ' '.join(said.advice)
