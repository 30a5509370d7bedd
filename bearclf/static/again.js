// The browser's half of `Again`, in nbs/library/watch/32_monitor.ipynb: it asks now and then, so that a page that is
// left open shows what is new, and its kernel is not taken for one that nobody needs.
import { sayGoodbye } from './visit.js';

function render({ model }) {
  const ask = () => model.send({ kind: 'look' });
  const clock = setInterval(ask, 1000 * model.get('every_s'));
  sayGoodbye();
  ask();
  return () => clearInterval(clock);
}

export default { render };
