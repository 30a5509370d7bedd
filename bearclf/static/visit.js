// When a visit to a page that Voilà serves begins and ends, for all widgets of ours that stand on one

// Who comes back after the kernel has ended, as it does when nobody is there for long, gets the page anew
async function wake(kernel) {
  const answer = document.hidden ? null : await fetch(kernel).catch(() => null);
  if (answer && answer.status === 404) location.reload();
}

// The visitor's kernel ends with the visit; phones often do not send the `beforeunload` that Voilà waits for
function sayGoodbye() {
  const told = document.getElementById('jupyter-config-data');
  const page = document.body.dataset;
  if (!page.voila || !told || page.goodbye) return;
  page.goodbye = 'is said when the page is left';
  const { baseUrl, kernelId } = JSON.parse(told.textContent);
  addEventListener('pagehide', () => navigator.sendBeacon(`${baseUrl}voila/api/shutdown/${kernelId}`));
  for (const o of ['visibilitychange', 'focus', 'online']) {
    addEventListener(o, () => wake(`${baseUrl}api/kernels/${kernelId}`), true);
  }
  addEventListener('pageshow', (e) => {
    if (e.persisted) location.reload();
  });
}

export { sayGoodbye };
