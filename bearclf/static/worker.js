// The service worker of a folder that `write_folder` has written, in nbs/library/ship/26b_hosted.ipynb: who has seen
// the page once has it without a network, too. All files of a version have names of their own, and are kept together.

/** @type {any} */
const worker = self;
// @ts-ignore: Python writes `SITE` in the line above: the page, and all files that belong to it
const { page, files } = SITE;
const scope = worker.registration.scope, mine = `bearclf ${scope} `, version = mine + page;

// What begins the SHA-256 of the file stands in its name; git may have changed the line ends of a text
async function isWhole(file, name) {
  if (!name.endsWith('.bin')) return true;
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer()));
  return name.includes(`.${[...hash.slice(0, 6)].map((o) => o.toString(16).padStart(2, '0')).join('')}.`);
}

// All files are kept, or none; one that was cut short on its way would otherwise be kept for good
async function keep() {
  const kept = await caches.open(version);
  await kept.addAll(files);
  const whole = await Promise.all(files.map(async (o) => isWhole(await kept.match(o), o)));
  if (whole.every((o) => o)) return;
  await caches.delete(version);
  throw new Error('a file is damaged');
}

worker.addEventListener('install', (e) => e.waitUntil(keep()));

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
