"Package bearclf with the metadata and requirements that stand in settings.ini"
from configparser import ConfigParser
from setuptools import find_packages, setup

cfg = ConfigParser(delimiters=['='])
cfg.read('settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
extras = {o: cfg[f'{o}_requirements'].split() for o in ('train', 'site', 'scale', 'dev')}
with open('README.md', encoding='utf-8') as f: readme = f.read()

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], url=cfg['git_url'],
    long_description=readme, long_description_content_type='text/markdown',
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0', keywords=cfg['keywords'],
    packages=[*find_packages(include=['bearclf', 'bearclf.*']), 'bearclf.nbs'], package_dir={'bearclf.nbs': 'nbs'},
    package_data={'bearclf': ['static/**'], 'bearclf.nbs': ['**/*.ipynb', 'images/*']},
    python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(), extras_require=extras,
    entry_points={'console_scripts': ['bearclf=bearclf.__main__:main'], 'nbdev': ['bearclf=bearclf._modidx:d']},
)
