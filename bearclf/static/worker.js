// The service worker of a folder that `write_folder` has written, in nbs/library/ship/26b_hosted.ipynb: who has seen
// the page once has it without a network, too. All files of a version have names of their own, and are kept together.

/** @type {any} */
const worker = self;
// @ts-ignore: Python writes `SITE` in the line above: the page, and all files that belong to it
const { page, files } = SITE;
const scope = worker.registration.scope, mine = `bearclf ${scope} `, version = mine + page;

worker.addEventListener('install', (e) => e.waitUntil(caches.open(version).then((o) => o.addAll(files))));

// The version before goes once nobody looks at it; what other pages of the same host keep is not touched
async function removeOld() {
  const old = (await caches.keys()).filter((o) => o.startsWith(mine) && o !== version);
  await Promise.all(old.map((o) => caches.delete(o)));
}

worker.addEventListener('activate', (e) => e.waitUntil(removeOld()));

// The file of this version that is asked for; undefined for all else, which goes to the network as if we were not there
function asked({ method, url, mode }) {
  if (method !== 'GET' || !url.startsWith(scope)) return undefined;
  const name = url.slice(scope.length).replace(/[?#].*/, '');
  return mode === 'navigate' && ['', 'index.html'].includes(name) ? page : files.find((o) => o === name);
}

worker.addEventListener('fetch', (e) => {
  const name = asked(e.request);
  if (!name) return;
  e.respondWith(caches.match(name, { cacheName: version }).then((found) => found || fetch(e.request)));
});
