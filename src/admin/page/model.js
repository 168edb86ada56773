// What the page knows, and what it makes of it. Pure: no page, no network, no clock.
//
// The history is a window of points that only grows at its end; a point is what happened in two
// seconds. Histograms come as counts by bucket, because those can be added up and percentiles cannot.

/** How far the window goes back. */
export const WINDOW_MS = 15 * 60 * 1_000;
/** What a chart may show of it; a third of each is a whole number of minutes. */
const SPANS_MS = [3, 6, 15].map((minutes) => minutes * 60_000);
/** Points behind each percentile that is drawn: half a minute, so that single calls do not jump. */
export const BEHIND = 15;

/** Columns of whole numbers, and of histograms. */
export const COLUMNS = [
  'end_ms',
  'calls_complete',
  'calls_refused',
  'calls_upstream',
  'calls_deadline',
  'calls_client_gone',
  'input_tokens',
  'output_tokens',
  'spend_nano',
  'saved_nano',
  'saved_calls',
  'saved_tokens',
  'cache_hit',
  'cache_canonical',
  'cache_semantic',
  'cache_joined',
  'cache_partial',
  'cache_miss',
  'cache_bypass',
  'in_flight',
  'waiting',
];
export const HISTOGRAMS = ['first_token', 'overhead'];
export const OUTCOMES = ['complete', 'refused', 'upstream', 'deadline', 'client_gone'];
export const FREE = ['hit', 'canonical', 'semantic', 'joined'];

/** The window, from a `history` event. Columns that are not there are zeros: an older server. */
export function opened(event) {
  const length = event.points.end_ms.length;
  const columns = {};
  for (const name of COLUMNS) {
    columns[name] = filled(event.points[name], length, 0);
  }
  for (const name of HISTOGRAMS) {
    columns[name] = filled(event.points[name], length, null);
  }
  return {
    started: event.started_ms,
    every: event.every_ms,
    last: event.last,
    bounds: event.bounds,
    columns,
  };
}

function filled(column, length, blank) {
  const values = Array.isArray(column) ? column.slice(0, length) : [];
  while (values.length < length) values.push(blank);
  return values;
}

/** How much of the window to draw: so much that all points fit, so that a young process fills its charts. */
export function span(ends) {
  const age = ends.length ? ends.at(-1) - ends[0] : 0;
  return SPANS_MS.find((long) => long >= age) ?? WINDOW_MS;
}

/** Adds a point and drops what is too old. Whether it was new. */
export function append(history, point) {
  if (!point || point.n <= history.last) return false;
  history.last = point.n;
  const { columns } = history;
  for (const name of COLUMNS) columns[name].push(point[name] ?? 0);
  for (const name of HISTOGRAMS) columns[name].push(point[name] ?? null);
  const from = columns.end_ms.findIndex((end) => end > point.end_ms - WINDOW_MS);
  if (from > 0) {
    for (const column of Object.values(columns)) column.splice(0, from);
  }
  return true;
}

/**
 * The value below which a share `q` of the observations lies: linear within its bucket, as
 * Prometheus has it, so that both say the same. `null`: nothing was observed.
 *
 * `counts` has one bucket more than `bounds`: what lies above all. It tells as its value the last bound.
 */
export function quantile(bounds, counts, q) {
  const all = sum(counts);
  if (!all) return null;
  const rank = q * all;
  let below = 0;
  for (let at = 0; at < bounds.length; at += 1) {
    const inside = counts[at] ?? 0;
    if (inside && below + inside >= rank) {
      const low = at ? bounds[at - 1] : 0;
      return low + (bounds[at] - low) * ((rank - below) / inside);
    }
    below += inside;
  }
  return bounds.at(-1);
}

/** Counts of several points together. Points without observations are `null`. */
export function merged(column) {
  const all = [];
  for (const counts of column) add(all, counts, 1);
  return all;
}

function add(all, counts, sign) {
  if (!counts) return;
  counts.forEach((many, at) => {
    all[at] = (all[at] ?? 0) + sign * many;
  });
}

/** A percentile at each point, over it and those before it. */
export function rolling(bounds, column, q, behind = BEHIND) {
  const inside = [];
  return column.map((counts, at) => {
    add(inside, counts, 1);
    if (at >= behind) add(inside, column[at - behind], -1);
    return quantile(bounds, inside, q);
  });
}

export function sum(column) {
  return column.reduce((all, value) => all + (value ?? 0), 0);
}

/** Running sum, from the left edge of the window. Whole numbers stay whole. */
export function cumulative(column) {
  let all = 0;
  return column.map((value) => (all += value));
}

/** Counts of points as what happened in a second. A point is longer than `every` where a look was missed. */
export function perSecond(column, ends, every) {
  return column.map((value, at) => {
    const length = at ? Math.max(every, ends[at] - ends[at - 1]) : every;
    return (value * 1_000) / length;
  });
}

/** The mean of the last points, to be read as "now". */
export function recent(values, points = 5) {
  const last = values.slice(-points);
  return last.length ? sum(last) / last.length : 0;
}

/** Figures of the whole window. */
export function totals(history) {
  const { columns } = history;
  const calls = sum(OUTCOMES.map((name) => sum(columns[`calls_${name}`])));
  return {
    calls,
    refused: sum(columns.calls_refused),
    spend: sum(columns.spend_nano),
    saved: sum(columns.saved_nano),
    free: sum(columns.saved_calls),
    freeShare: calls ? sum(columns.saved_calls) / calls : null,
    firstToken: merged(columns.first_token),
    overhead: merged(columns.overhead),
  };
}

/**
 * What must be done to rows keyed so before to have them so after: keys that go, and keys to be put
 * in or moved. Those that are in neither stay where they are, and they are as many as can: a row that
 * a reader has in focus is seldom moved.
 */
export function plan(before, after) {
  const wanted = new Map(after.map((key, at) => [key, at]));
  const gone = before.filter((key) => !wanted.has(key));
  const stays = before.filter((key) => wanted.has(key));
  const kept = new Set(ascending(stays.map((key) => wanted.get(key))).map((at) => stays[at]));
  return { gone, placed: after.filter((key) => !kept.has(key)) };
}

/** Places of a longest ascending run of distinct numbers (patience sorting). */
function ascending(numbers) {
  const tails = [];
  const before = [];
  numbers.forEach((number, at) => {
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numbers[tails[middle]] < number) low = middle + 1;
      else high = middle;
    }
    before[at] = low ? tails[low - 1] : -1;
    tails[low] = at;
  });
  const run = [];
  for (let at = tails.at(-1) ?? -1; at >= 0; at = before[at]) run.push(at);
  return run.reverse();
}

/** Rows by a value, the largest first or the other way; equal ones by name, so that none jumps. */
export function sorted(rows, value, descending, name) {
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    const order = typeof left === 'string' ? left.localeCompare(right, 'en') : left - right;
    return (descending ? -order : order) || name(a).localeCompare(name(b), 'en');
  };
  return [...rows].sort(compare);
}

/** How full a limit is: shares of one that are used and held, cut at one, and the sum uncut. */
export function filling(limit) {
  const room = Math.max(limit.limit, 1);
  const used = Math.min(Math.max(limit.used, 0) / room, 1);
  const held = Math.min(Math.max(limit.held, 0) / room, 1 - used);
  const full = (Math.max(limit.used, 0) + Math.max(limit.held, 0)) / room;
  return { used, held, full };
}

/** What a person should look at, worst first. */
export function attention(now) {
  const all = [];
  const tell = (level, text) => all.push({ level, text });
  if (now.ready === false) tell('bad', 'Not ready: new calls should go elsewhere.');
  for (const why of now.why ?? []) tell(now.ready === false ? 'bad' : 'warn', capital(why));
  for (const one of now.upstreams ?? []) {
    const aside = (one.addresses ?? []).filter((address) => address.state !== 'well').length;
    if (one.breaker?.state === 'open') {
      tell('bad', `Upstream ${one.name} gets no calls: its breaker is open.`);
    } else if (aside) {
      const all = one.addresses.length;
      tell('warn', `Upstream ${one.name}: ${aside} of ${all} addresses set aside.`);
    }
    if (one.queue?.pace?.paused_ms > 0) {
      tell('warn', `Upstream ${one.name} asked us to slow down; its calls wait.`);
    }
  }
  for (const agent of now.agents ?? []) {
    if (agent.runaway)
      tell('bad', `Agent ${agent.agent} repeats itself: the guard against loops has it.`);
    for (const limit of agent.limits ?? []) {
      const text = short(agent, limit);
      // a team's limit stands at each of its agents
      if (text && !all.some((one) => one.text === text)) tell('warn', text);
    }
  }
  const rank = { bad: 0, warn: 1 };
  return all.sort((a, b) => rank[a.level] - rank[b.level]);
}

/** A limit with little left, in words. What refills by the minute is told only when nothing is left. */
function short(agent, limit) {
  const { full } = filling(limit);
  const enough = limit.measure === 'spend' ? 0.9 : 1;
  if (limit.measure === 'concurrency' || limit.mode === 'observe' || full < enough) return null;
  const whose =
    { team: `Team ${agent.team}`, all: 'All agents together' }[limit.per] ?? `Agent ${agent.agent}`;
  const left = full < 1 ? 'near the end' : 'at the end';
  return `${whose}: ${left} of ${limit.measure.replaceAll('_', ' ')} by policy ${limit.policy}.`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
}

/** A scale that ends on a round number at or above `most`: 1, 2 or 5 times a power of ten. */
export function ceiling(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [1, 2, 5, 10].find((times) => times * power >= most * (1 - 1e-9));
  return step * power;
}
