// What the page may change: it ends calls and tasks, where the instance lets it.
//
// Each button is pressed twice: rows move while one aims. The request carries a header of ours, which no
// page of another origin can send, and the token where the instance has one.
import { make, mark, say } from './dom.js';

const SURE_MS = 4_000;
let permit = 'off';
let secret = () => '';
let wanted = () => {};
let tell = () => {};

/** `token()` gives the token or an empty text, `ask()` has it asked for, `told(text)` is read out. */
export function wire({ token, ask, told }) {
  [secret, wanted, tell] = [token, ask, told];
}

/** `off`, `open` or `token`, as the instance says. */
export function allow(mode) {
  permit = ['open', 'token'].includes(mode) ? mode : 'off';
}

export const allowed = () => permit !== 'off';

/** A button that ends something. `target()`: path and name of what its row shows now. */
export function ender(target) {
  const button = make('button', { type: 'button', class: 'end' }, 'Cancel');
  let sure = null;
  const calm = () => {
    clearTimeout(sure);
    sure = null;
    mark(button, 'data-sure', false);
    label();
  };
  const label = () => {
    const { name } = target();
    say(button, sure ? 'Press again' : 'Cancel');
    mark(button, 'aria-label', sure ? `Press again to cancel ${name}` : `Cancel ${name}`);
  };
  button.addEventListener('click', async () => {
    if (button.getAttribute('aria-disabled') === 'true') return;
    if (!sure) {
      sure = setTimeout(calm, SURE_MS);
      mark(button, 'data-sure', true);
      label();
      return;
    }
    calm();
    if (permit === 'token' && !secret()) {
      wanted();
      return;
    }
    mark(button, 'aria-disabled', 'true');
    const { path, name } = target();
    tell(`${name}: ${await post(path)}.`);
    mark(button, 'aria-disabled', false);
  });
  button.addEventListener('blur', () => sure && calm());
  return { button, label: () => !sure && label() };
}

async function post(path) {
  const headers = { 'x-tidegate-page': '1' };
  if (secret()) headers.authorization = `Bearer ${secret()}`;
  try {
    const answer = await fetch(path, {
      method: 'POST',
      headers,
      cache: 'no-store',
      redirect: 'error',
    });
    if (answer.ok) return 'cancelled';
    if (answer.status === 404) return 'was over already';
    if (answer.status === 401) wanted();
    const { error } = await answer.json();
    return `not cancelled, ${error.message}`;
  } catch {
    return 'not cancelled, the instance did not answer';
  }
}
