// Where calls go: connections, breaker, pacing, addresses.
import { count, duration, several, words } from './format.js';
import { find, make, mark, once, say, table } from './dom.js';

const BREAKER = { closed: 'well', half_open: 'trying again', open: 'open: no calls' };

function health(one) {
  const { state, left_ms: left } = one.breaker;
  return (BREAKER[state] ?? words(state)) + (left ? `, tries again in ${duration(left)}` : '');
}

function pace(one) {
  const said = one.queue?.pace;
  if (!said) return 'as fast as calls come';
  const parts = [
    said.paused_ms > 0 && `paused for ${duration(said.paused_ms)}`,
    said.requests_per_min !== null && `${count(said.requests_per_min)} calls/min`,
    said.tokens_per_min !== null && `${count(said.tokens_per_min)} tokens/min`,
    said.window !== null && `${said.window} at once`,
  ].filter(Boolean);
  return parts.join(', ') || 'as fast as calls come';
}

function addresses(one) {
  return one.addresses.map((at) => {
    const left = at.left_ms ? `, back in ${duration(at.left_ms)}` : '';
    const late = at.latency_ms === null ? '' : `, ${duration(at.latency_ms)}`;
    return `${at.host}: ${words(at.state)}${left}${late}`;
  });
}

const columns = [
  {
    label: 'Upstream',
    head: true,
    value: (one) => one.name,
    fill: (cell, one) => say(cell, one.name),
  },
  {
    label: 'Breaker',
    value: (one) => one.breaker.state,
    fill(cell, one) {
      const text = once(cell, () => {
        const node = make('span', { class: 'state' });
        cell.append(node);
        return node;
      });
      say(text, health(one));
      mark(
        text,
        'data-level',
        { closed: 'good', half_open: 'warn', open: 'bad' }[one.breaker.state] ?? 'warn',
      );
    },
  },
  {
    label: 'Running',
    number: true,
    value: (one) => one.in_flight,
    fill: (cell, one) =>
      say(cell, one.concurrency ? `${one.in_flight} of ${one.concurrency}` : one.in_flight),
  },
  {
    label: 'Waiting',
    number: true,
    value: (one) => one.queue?.depth ?? one.waiting,
    fill: (cell, one) => say(cell, one.queue?.depth ?? one.waiting),
  },
  { label: 'Pacing', fill: (cell, one) => say(cell, pace(one)) },
  {
    label: 'Connections',
    number: true,
    value: (one) => one.pool.open,
    fill(cell, one) {
      const { open, idle, dialled, reused } = one.pool;
      say(cell, `${open} open, ${idle} idle`);
      mark(
        cell,
        'title',
        `${several(dialled, 'connection')} made, ${several(reused, 'call')} went over one made earlier`,
      );
    },
  },
  {
    label: 'Sent again',
    number: true,
    value: (one) => one.pool.retried,
    fill: (cell, one) => say(cell, count(one.pool.retried)),
  },
  {
    label: 'Addresses',
    fill(cell, one) {
      const list = addresses(one);
      say(
        cell,
        list.length === 1
          ? list[0]
          : list.slice(0, 8).join('; ') + (list.length > 8 ? `; and ${list.length - 8} more` : ''),
      );
      const aside = one.keys.aside ? `${one.keys.aside} of ${one.keys.held} keys set aside` : '';
      mark(cell, 'title', aside || false);
    },
  },
];

const lane_columns = [
  { label: 'Route', head: true, fill: (cell, lane) => say(cell, lane.route) },
  {
    label: 'Running',
    number: true,
    fill: (cell, lane) =>
      say(cell, lane.slots === null ? lane.running : `${lane.running} of ${lane.slots}`),
  },
  {
    label: 'Waiting',
    number: true,
    fill: (cell, lane) => say(cell, `${lane.waiting} of ${lane.depth}`),
  },
];

export function upstreams() {
  const rows = table(find('upstreams-table'), {
    columns,
    key: (one) => one.name,
    by: null,
    empty: 'No upstream had a call yet.',
  });
  const lanes = table(find('lanes-table'), {
    columns: lane_columns,
    key: (lane) => lane.route,
    empty: '',
  });
  return (now) => {
    rows.show(now.upstreams);
    const rest = now.upstreams_total - now.upstreams.length;
    say(
      find('upstreams-more'),
      rest > 0 ? `${count(rest)} more in the policy, without a call so far.` : '',
    );
    lanes.show(now.lanes);
    find('lanes-box').hidden = now.lanes.length === 0;
  };
}
