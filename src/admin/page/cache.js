// What is kept, and what likeness would have given: the shadow report of each policy.
import { bytes, count, money, several, share, words } from './format.js';
import { find, keep, make, mark, once, say, table } from './dom.js';
import { curve } from './curve.js';

const columns = [
  { label: 'Policy', head: true, fill: (cell, one) => say(cell, one.policy) },
  {
    label: 'Answers in memory',
    number: true,
    fill: (cell, one) => say(cell, count(one.memory.entries)),
  },
  {
    label: 'Memory',
    number: true,
    fill: (cell, one) => say(cell, `${bytes(one.memory.bytes)} of ${bytes(one.memory.budget)}`),
  },
  {
    label: 'Pushed out',
    number: true,
    fill: (cell, one) => say(cell, count(one.memory.evictions)),
  },
  {
    label: 'Answers on disk',
    number: true,
    fill: (cell, one) => say(cell, one.disk ? count(one.disk.records) : '–'),
  },
  {
    label: 'Disk',
    number: true,
    fill(cell, one) {
      const { disk } = one;
      const ill = disk && !disk.healthy ? ', cannot be written' : '';
      say(cell, disk ? `${bytes(disk.bytes)} of ${bytes(disk.budget)}${ill}` : '–');
      mark(cell, 'data-bad', Boolean(ill));
    },
  },
];

const MODES = { shadow: 'only compares, gives nothing', on: 'gives answers', off: 'is off' };

/** The report of one policy in sentences. */
export function report({ alike }) {
  const found =
    `${several(alike.looks, 'question')} looked up in other words. ${count(alike.would)} had a like one kept` +
    `${alike.would_hit_rate === null ? '' : ` (${share(alike.would_hit_rate)})`}; ${count(alike.canonical)} more were the same but for form.`;
  const served = alike.served
    ? ` ${several(alike.served, 'answer was', 'answers were')} given.`
    : '';
  const tried = alike.compared
    ? `${several(alike.compared, 'answer')} compared with what upstream said: ${count(alike.agreed)} agreed, ` +
      `${count(alike.disagreed)} did not, ${count(alike.unsure)} could not be told.`
    : 'None was compared with what upstream says yet.';
  const { estimate, low, high } = alike.precision;
  const right =
    estimate === null
      ? ''
      : ` ${share(estimate)} were right; the true share lies between ${share(low)} and ${share(high)}, 95 times of 100.`;
  const cost = alike.forgone_nano
    ? ` Given from here, they had saved ${money(alike.forgone_nano)}.`
    : '';
  const now = alike.stopped
    ? 'Nothing is given by likeness: too many answers were wrong.'
    : alike.threshold === null
      ? 'No threshold is in force yet.'
      : `Threshold in force: ${alike.threshold.toFixed(3)}${alike.rises ? `, after ${several(alike.rises, 'rise')}` : ''}.`;
  const bad = alike.quarantined
    ? ` ${several(alike.quarantined, 'answer is', 'answers are')} no longer given by likeness.`
    : '';
  return [found + served, tried + right + cost, now + bad];
}

function made() {
  const node = make('article', { class: 'report' });
  const title = make('h4');
  const mode = make('p', { class: 'about' });
  const said = [make('p'), make('p'), make('p')];
  const drawing = make('div', { class: 'curve' });
  node.append(title, mode, ...said, drawing);
  once(node, () => ({ title, mode, said, draw: curve(drawing) }));
  return node;
}

function fill(node, one) {
  const { title, mode, said, draw } = once(node);
  say(title, `Policy ${one.policy}`);
  say(mode, one.alike.mode ? `Likeness ${MODES[one.alike.mode] ?? words(one.alike.mode)}.` : '');
  report(one).forEach((text, at) => say(said[at], text));
  draw(one.alike);
}

export function cache() {
  const rows = table(find('cache-table'), {
    columns,
    key: (one) => one.policy,
    empty: 'Nothing is cached. A policy with `cache: { ttl: 1h }` keeps answers.',
  });
  return (now) => {
    const policies = now.cache?.policies ?? [];
    rows.show(policies);
    const alike = policies.filter((one) => one.alike);
    keep(find('reports'), alike, (one) => one.policy, made, fill);
    find('reports-box').hidden = alike.length === 0;
  };
}
