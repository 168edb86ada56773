// A limit as a bar that fills up, and in words.
import { count, duration, money, share, words } from './format.js';
import { filling } from './model.js';
import { bar, make, mark, say } from './dom.js';

const amount = (limit, value) => (limit.measure === 'spend' ? money(value) : count(value));

/** Empty nodes for a limit. */
export function blank() {
  const filled = bar();
  const name = make('span', { class: 'what' });
  const said = make('span', { class: 'said' });
  const node = make('li', { class: 'limit' }, name, filled.node, said);
  parts.set(node, { filled, name, said });
  return node;
}
const parts = new WeakMap();

export function fill(node, limit) {
  const { filled, name, said } = parts.get(node);
  const full = filling(limit);
  filled.set(full);
  const whose =
    limit.per === 'agent'
      ? ''
      : limit.per === 'all'
        ? ', of all'
        : `, of ${words(limit.per)} ${limit.scope}`;
  const watched = limit.mode === 'observe' ? ', only watched' : '';
  say(name, `${words(limit.measure)}${whose}${watched}`);
  const held = limit.held > 0 ? ` + ${amount(limit, limit.held)} held` : '';
  const debt = full.full > 1 ? ', over' : '';
  const back =
    limit.used > 0 && limit.resets_in_ms ? `, free in ${duration(limit.resets_in_ms)}` : '';
  say(
    said,
    `${amount(limit, limit.used)}${held} of ${amount(limit, limit.limit)} (${share(full.full)}${debt})${back}`,
  );
  mark(node, 'title', `policy ${limit.policy}, ${limit.mode}`);
}

/** What tells a limit from all others. */
export const key = (limit) => [limit.policy, limit.measure, limit.per, limit.scope].join('\u001f');
