// The head of the page, the figures at a glance, and the charts of the last quarter of an hour.
import {
  bytes,
  clock,
  count,
  duration,
  latency,
  money,
  rate,
  several,
  share,
  words,
} from './format.js';
import {
  FREE,
  OUTCOMES,
  attention,
  cumulative,
  merged,
  perSecond,
  quantile,
  recent,
  rolling,
  sum,
  totals,
} from './model.js';
import { find, keep, make, mark, say } from './dom.js';
import { chart, spark } from './chart.js';

const STAGES = {
  serving: ['Serving', 'good'],
  leaving: ['Leaving: told others to stop sending', 'warn'],
  draining: ['Draining: finishes what runs', 'warn'],
  ending: ['Ending: cuts what runs', 'bad'],
};

export function head(now) {
  const [said, level] = STAGES[now.stage] ?? [words(now.stage), 'warn'];
  const ill = now.stage === 'serving' && now.ready === false;
  say(find('stage'), ill ? 'Not ready' : said);
  mark(find('stage'), 'data-level', ill ? 'bad' : level);
  say(find('version'), `version ${now.version}`);
  say(find('uptime'), `up ${duration(now.at_ms - now.started_ms)}`);
  say(find('loaded'), `policy of ${clock(now.policy.loaded_ms)}`);
  const { held, budget, level: pressure } = now.memory;
  say(
    find('room'),
    `${several(now.connections, 'connection')}, calls hold ${bytes(held)} of ${bytes(budget)}${pressure === 'calm' ? '' : ` (${words(pressure)})`}`,
  );
}

/** What is wrong, worst first; nothing where all is well. */
export function look(now) {
  const all = attention(now).slice(0, 12);
  keep(
    find('attention'),
    all,
    (one) => one.text,
    () => make('li'),
    (node, one) => {
      mark(node, 'data-level', one.level);
      say(node, one.text);
    },
  );
  find('attention-box').hidden = all.length === 0;
}

/** The page in one sentence. */
export function sentence(now, whole) {
  if (!now.totals.calls && !now.in_flight) return 'Nobody has called yet.';
  const saved = whole.saved > 0 ? ` and saved ${money(whole.saved)}` : '';
  const refused = whole.refused
    ? ` ${several(whole.refused, 'call was', 'calls were')} refused.`
    : '';
  return (
    `${several(now.agents_total, 'agent')}, ${several(now.in_flight, 'call')} in flight, ${now.waiting ? count(now.waiting) : 'none'} of them waiting. ` +
    `In the last 15 minutes: ${several(whole.calls, 'call')}, spent ${money(whole.spend)}${saved}.${refused}`
  );
}

/** `big(now, history, whole)`, `small(…)`: texts; `line(history)`: one value for each point. */
const CARDS = [
  {
    title: 'In flight',
    why: 'calls begun and not ended',
    big: (now) => count(now.in_flight),
    small: (now, history) => `${rate(recent(calls(history)))} finish`,
    line: (history) => calls(history),
  },
  {
    title: 'Waiting',
    why: 'calls that wait for a place',
    big: (now) => count(now.waiting),
    small: (now, history) => `at most ${count(Math.max(now.waiting, ...history.columns.waiting))} in 15 min`,
    line: ({ columns }) => columns.waiting,
  },
  {
    title: 'Saved',
    why: 'answered without paying again',
    big: (now, history, whole) => money(whole.saved),
    small: (now, history, whole) =>
      `${share(whole.freeShare)} of calls; ${money(now.totals.saved_nano)} since the start`,
    line: ({ columns }) => cumulative(columns.saved_nano),
  },
  {
    title: 'Spent',
    why: 'by the prices known here',
    big: (now, history, whole) => money(whole.spend),
    small: (now) => `${money(now.totals.spend_nano)} since the start`,
    line: ({ columns }) => cumulative(columns.spend_nano),
  },
  {
    title: 'First token',
    why: 'half of streams begin within',
    big: (now, history, whole) =>
      latency(quantile(history.bounds.first_token, whole.firstToken, 0.5)),
    small: (now, history, whole) =>
      `99 of 100 within ${latency(quantile(history.bounds.first_token, whole.firstToken, 0.99))}`,
    line: ({ bounds, columns }) => rolling(bounds.first_token, columns.first_token, 0.5),
  },
  {
    title: 'Overhead',
    why: 'what Tidegate adds to half of calls',
    big: (now, history, whole) => latency(quantile(history.bounds.overhead, whole.overhead, 0.5)),
    small: (now, history, whole) =>
      `99 of 100 within ${latency(quantile(history.bounds.overhead, whole.overhead, 0.99))}`,
    line: ({ bounds, columns }) => rolling(bounds.overhead, columns.overhead, 0.5),
  },
];

function calls({ columns, every }) {
  const all = columns.end_ms.map((_, at) =>
    sum(OUTCOMES.map((name) => columns[`calls_${name}`][at])),
  );
  return perSecond(all, columns.end_ms, every);
}

const counted = (label, style, column) => ({
  label,
  style,
  values: ({ columns, every }) => perSecond(columns[column], columns.end_ms, every),
  of: ({ columns }) => count(sum(columns[column])),
});

const summed = (label, style, column) => ({
  label,
  style,
  values: ({ columns }) => cumulative(columns[column]),
  of: ({ columns }) => money(sum(columns[column])),
});

const percentile = (label, style, column, q) => ({
  label,
  style,
  values: ({ bounds, columns }) => rolling(bounds[column], columns[column], q),
  of: ({ bounds, columns }) => latency(quantile(bounds[column], merged(columns[column]), q)),
});

const CHARTS = {
  'chart-calls': {
    title: 'Calls',
    stacked: true,
    format: rate,
    series: [
      counted('answered', 's1', 'calls_complete'),
      counted('refused', 's2', 'calls_refused'),
      counted('upstream failed', 's5', 'calls_upstream'),
      counted('out of time', 's4', 'calls_deadline'),
      counted('left or cancelled', 's6', 'calls_client_gone'),
    ],
  },
  'chart-money': {
    title: 'Money',
    format: money,
    series: [summed('spent', 's2', 'spend_nano'), summed('saved', 's3', 'saved_nano')],
  },
  'chart-tokens': {
    title: 'Tokens',
    format: rate,
    series: [
      counted('in', 's1', 'input_tokens'),
      counted('out', 's4', 'output_tokens'),
      counted('saved', 's3', 'saved_tokens'),
    ],
  },
  'chart-cache': {
    title: 'Cache',
    stacked: true,
    format: rate,
    series: [
      counted('the same', 's3', 'cache_hit'),
      counted('the same but for form', 's1', 'cache_canonical'),
      counted('alike', 's4', 'cache_semantic'),
      counted('shared while it ran', 's2', 'cache_joined'),
      counted('in part', 's5', 'cache_partial'),
      counted('not kept', 's6', 'cache_miss'),
    ],
  },
  'chart-first': {
    title: 'First token',
    format: latency,
    series: [
      percentile('half within', 's1', 'first_token', 0.5),
      percentile('99 of 100 within', 's2', 'first_token', 0.99),
    ],
  },
  'chart-overhead': {
    title: 'Overhead',
    format: latency,
    series: [
      percentile('half within', 's1', 'overhead', 0.5),
      percentile('99 of 100 within', 's2', 'overhead', 0.99),
    ],
  },
};

export function glance() {
  const cards = CARDS.map((card) => {
    const [big, small] = [make('p', { class: 'big' }), make('p', { class: 'small' })];
    const box = make(
      'li',
      { class: 'card' },
      make('h3', {}, card.title),
      make('p', { class: 'about' }, card.why),
      big,
    );
    const draw = spark(box);
    box.append(small);
    find('cards').append(box);
    return { card, big, small, draw };
  });
  const charts = Object.entries(CHARTS).map(([id, spec]) => chart(find(id), spec));
  let whole = null;
  return {
    /** New points came. */
    counted(history) {
      whole = totals(history);
    },
    /** The same, to be seen: the charts cost most, and can wait for the figures. */
    drawn(history) {
      for (const { card, draw } of cards)
        draw(history.columns.end_ms, card.line(history), history.every);
      for (const show of charts) show(history);
    },
    /** A second has passed. */
    told(now, history) {
      for (const { card, big, small } of cards) {
        say(big, card.big(now, history, whole));
        say(small, card.small(now, history, whole));
      }
      say(find('sentence'), sentence(now, whole));
      const { cache } = now.totals;
      const free = sum(FREE.map((how) => cache[how]));
      const asked = sum(Object.values(cache));
      say(
        find('cache-said'),
        asked
          ? `${share(free / asked)} of ${several(asked, 'call')} that a policy caches were answered from here, since the start.`
          : '',
      );
      const start = find('start');
      start.hidden = now.totals.calls > 0 || now.in_flight > 0;
      if (!start.hidden) say(find('start-lines'), beginning(now.listen));
    },
  };
}

/** How to have a first call made. */
function beginning(listen) {
  const at = listen.find((one) => /^[\w.:[\]-]+:\d+$/.test(one)) ?? '127.0.0.1:8080';
  return `export OPENAI_BASE_URL=http://${at}/v1\nexport ANTHROPIC_BASE_URL=http://${at}\n# then start your agent`;
}
