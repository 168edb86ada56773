// What the live page reckons and how it says it. Run: node --test tests/page
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { report } from '../../src/admin/page/cache.js';
import { sentence } from '../../src/admin/page/figures.js';
import * as format from '../../src/admin/page/format.js';
import * as model from '../../src/admin/page/model.js';
import { pause, reader } from '../../src/admin/page/stream.js';

const fixture = () => JSON.parse(readFileSync(new URL('fixture.json', import.meta.url), 'utf8'));

test('money is shown to the micro-dollar and rounded once', () => {
  const cases = [
    [0, '$0'],
    [1, '<$0.000001'],
    [499, '<$0.000001'],
    [500, '$0.000001'],
    [171_400, '$0.000171'],
    [171_500, '$0.000172'],
    [9_999_999, '$0.010000'],
    [10_000_000, '$0.0100'],
    [31_249_999, '$0.0312'],
    [31_250_000, '$0.0313'],
    [999_949_999, '$0.9999'],
    [999_950_000, '$1.0000'],
    [4_200_000_000, '$4.20'],
    [1_234_567_890_123, '$1,235'],
    [9_007_199_254_740_991, '$9,007,199'],
    [-4_205_000_000, '−$4.21'],
    [-1, '−<$0.000001'],
  ];
  for (const [nano, text] of cases) assert.equal(format.money(nano), text, `${nano}`);
});

test('a sum of micro-dollars is exact where fractions are not', () => {
  // 0.1 + 0.2, ten thousand times
  const nano = Array.from({ length: 20_000 }, (_, at) => (at % 2 ? 200_000_000 : 100_000_000));
  assert.equal(format.dollars(model.sum(nano), 6), '$3,000.000000');
});

test('counts, times, bytes and shares', () => {
  const cases = [
    [format.count, 0, '0'],
    [format.count, 9_999, '9,999'],
    [format.count, 12_345, '12.3k'],
    [format.count, 999_499, '999k'],
    [format.count, 999_500, '1M'],
    [format.count, 4_560_000, '4.56M'],
    [format.whole, 1_234_567, '1,234,567'],
    [format.whole, -1_234, '−1,234'],
    [format.duration, 0, '0 ms'],
    [format.duration, 999, '999 ms'],
    [format.duration, 1_000, '1 s'],
    [format.duration, 59_949, '59.9 s'],
    [format.duration, 59_960, '1 min'],
    [format.duration, 125_000, '2 min 5 s'],
    [format.duration, 3_600_000, '1 h'],
    [format.duration, 11_045_000, '3 h 4 min'],
    [format.duration, 183_600_000, '2 d 3 h'],
    [format.latency, null, '–'],
    [format.latency, 0.0000085, '8.5 µs'],
    [format.latency, 0.0009996, '1 ms'],
    [format.latency, 0.0123, '12.3 ms'],
    [format.latency, 0.9996, '1 s'],
    [format.latency, 90, '1 min 30 s'],
    [format.rate, 0, '0/s'],
    [format.rate, 0.001, '<0.01/s'],
    [format.rate, 4.256, '4.26/s'],
    [format.rate, 1_800, '1,800/s'],
    [format.rate, 12_500, '12.5k/s'],
    [format.bytes, 0, '0 B'],
    [format.bytes, 1_023, '1,023 B'],
    [format.bytes, 1_536, '1.5 KiB'],
    [format.bytes, 67_108_864, '64 MiB'],
    [format.share, null, '–'],
    [format.share, 0, '0%'],
    [format.share, 0.0004, '<0.1%'],
    [format.share, 0.123, '12%'],
    [format.share, 0.9996, '>99.9%'],
    [format.share, 1, '100%'],
    [format.share, 0.945, '94.5%'],
    [format.words, 'first_byte', 'first byte'],
  ];
  for (const [say, value, text] of cases) assert.equal(say(value), text, `${say.name}(${value})`);
});

test('a percentile from buckets is what Prometheus makes of them', () => {
  const bounds = [0.1, 0.25, 0.5, 1];
  // histogram_quantile over cumulative 10, 30, 30, 40, 42
  const counts = [10, 20, 0, 10, 2];
  const near = (q, want) =>
    assert.ok(Math.abs(model.quantile(bounds, counts, q) - want) < 1e-12, `q${q}`);
  near(0.5, 0.1 + 0.15 * (11 / 20));
  near(30 / 42, 0.25);
  near(0.75, 0.5 + 0.5 * (1.5 / 10));
  near(0.1, 0.1 * 0.42);
  assert.equal(model.quantile(bounds, counts, 0.99), 1, 'above all bounds, the last one is told');
  assert.equal(model.quantile(bounds, [0, 0, 0, 0, 0], 0.5), null);
  assert.equal(model.quantile(bounds, [], 0.5), null);
  assert.equal(model.quantile(bounds, [0, 0, 0, 0, 3], 0.5), 1);
});

test('a rolling percentile sees its points and no others', () => {
  const bounds = [1, 2, 3];
  const column = [[4, 0, 0, 0], null, [0, 0, 4, 0], null, null];
  const rolled = model.rolling(bounds, column, 0.5, 2);
  assert.deepEqual(rolled, [0.5, 0.5, 2.5, 2.5, null]);
  const slow = column.map((_, at) =>
    model.quantile(bounds, model.merged(column.slice(Math.max(0, at - 1), at + 1)), 0.5),
  );
  assert.deepEqual(rolled, slow);
});

test('a point is added once, and the window forgets', () => {
  const { history: event, now } = fixture();
  const history = model.opened(event);
  const before = history.columns.end_ms.length;
  assert.equal(model.append(history, now.point), true);
  assert.equal(model.append(history, now.point), false, 'the same point again');
  assert.equal(model.append(history, undefined), false);
  assert.equal(history.columns.end_ms.length, before + 1);
  const late = {
    ...now.point,
    n: now.point.n + 1,
    end_ms: event.points.end_ms[3] + model.WINDOW_MS,
  };
  model.append(history, late);
  for (const [name, column] of Object.entries(history.columns)) {
    assert.equal(column.length, before + 2 - 4, name);
  }
  assert.equal(history.columns.end_ms[0], event.points.end_ms[4]);
});

test('a history of an older server, or of a new one, is read', () => {
  const { history: event } = fixture();
  delete event.points.cache_semantic;
  event.points.something_new = [1, 2, 3];
  const history = model.opened(event);
  assert.ok(history.columns.cache_semantic.every((value) => value === 0));
  assert.equal(history.columns.something_new, undefined);
});

test('points add up to what is told since the start', () => {
  const { history: event, now } = fixture();
  const history = model.opened(event);
  model.append(history, now.point);
  const whole = model.totals(history);
  assert.equal(whole.calls, now.totals.calls);
  assert.equal(whole.spend, now.totals.spend_nano);
  assert.equal(whole.saved, now.totals.saved_nano);
  assert.equal(
    now.agents.reduce((all, agent) => all + agent.spend_nano, 0),
    now.totals.spend_nano,
  );
  assert.equal(model.cumulative(history.columns.spend_nano).at(-1), now.totals.spend_nano);
});

/** Does what a plan says, as dom.js does it. */
function carriedOut(before, after) {
  const { gone, placed } = model.plan(before, after);
  const rows = before.filter((key) => !gone.includes(key));
  let last = null;
  for (const key of after) {
    if (placed.includes(key)) {
      if (rows.includes(key)) rows.splice(rows.indexOf(key), 1);
      rows.splice(last === null ? 0 : rows.indexOf(last) + 1, 0, key);
    }
    last = key;
  }
  return { rows, placed };
}

test('rows come to stand as they should, and few are moved', () => {
  const cases = [
    ['', 'abc', 3],
    ['abc', '', 0],
    ['abcdef', 'bcdef', 0],
    ['abcdef', 'bcdefa', 1],
    ['abcdef', 'fabcde', 1],
    ['abcdef', 'abxcdef', 1],
    ['abcd', 'dcba', 3],
    ['abcdef', 'xayfbz', 4],
  ];
  for (const [before, after, moves] of cases) {
    const { rows, placed } = carriedOut([...before], [...after]);
    assert.equal(rows.join(''), after, `${before} → ${after}`);
    assert.equal(placed.length, moves, `${before} → ${after}`);
  }
  let luck = 1;
  const next = (below) => (luck = (luck * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 500; round += 1) {
    const some = () =>
      [...'abcdefghij']
        .filter(() => next(3))
        .map((key) => [next(1_000), key])
        .sort((a, b) => a[0] - b[0])
        .map(([, key]) => key);
    const [before, after] = [some(), some()];
    assert.deepEqual(carriedOut(before, after).rows, after, `${before} → ${after}`);
  }
});

test('equal rows keep the order of their names', () => {
  const rows = [
    { name: 'b', many: 1 },
    { name: 'c', many: 2 },
    { name: 'a', many: 1 },
  ];
  const names = (descending) =>
    model
      .sorted(
        rows,
        (row) => row.many,
        descending,
        (row) => row.name,
      )
      .map((row) => row.name)
      .join('');
  assert.equal(names(true), 'cab');
  assert.equal(names(false), 'abc');
});

test('a limit fills up, holds and overflows', () => {
  const limit = (used, held) => model.filling({ used, held, limit: 100 });
  assert.deepEqual(limit(20, 30), { used: 0.2, held: 0.3, full: 0.5 });
  assert.deepEqual(limit(90, 30), { used: 0.9, held: 1 - 0.9, full: 1.2 });
  assert.deepEqual(limit(150, 10), { used: 1, held: 0, full: 1.6 });
  assert.deepEqual(limit(-5, 0), { used: 0, held: 0, full: 0 });
});

test('what needs a look is told, the worst first', () => {
  const { now } = fixture();
  const all = model.attention(now);
  const told = (part) => all.findIndex((one) => one.text.includes(part));
  for (const part of [
    'groq gets no calls',
    'local: 1 of 2 addresses',
    'openai asked us to slow down',
    'flood repeats itself',
    'researcher: near the end of spend by policy money',
    'flood: at the end of requests by policy everyone',
    'The last reload failed',
  ]) {
    assert.ok(told(part) >= 0, part);
  }
  assert.ok(told('coder') < 0);
  const shared = { ...now.agents[0].limits[2], per: 'team', scope: 'growth' };
  const team = ['a', 'b'].map((agent) => ({ agent, team: 'growth', limits: [shared] }));
  assert.deepEqual(
    model.attention({ agents: team }).map((one) => one.text),
    ['Team growth: near the end of spend by policy money.'],
  );
  const watched = { ...shared, mode: 'observe' };
  assert.deepEqual(model.attention({ agents: [{ agent: 'a', limits: [watched] }] }), []);
  const levels = all.map((one) => one.level);
  assert.deepEqual(levels, [...levels].sort(), 'bad before warn');
  assert.deepEqual(model.attention({ ready: true, why: [], upstreams: [], agents: [] }), []);
});

test('scales end on round numbers', () => {
  const cases = [
    [0, 1],
    [0.7, 1],
    [1, 1],
    [1.1, 2],
    [3, 5],
    [6, 10],
    [72, 100],
    [0.03, 0.05],
    [1.01e9, 2e9],
  ];
  for (const [most, end] of cases)
    assert.ok(Math.abs(model.ceiling(most) - end) < end * 1e-9, `${most}`);
});

test('events are whole however the stream is cut', () => {
  const text =
    ': hello\r\n\r\nevent: history\ndata: {"a":\ndata: 1}\nid: 7\n\nevent: now\rdata:{"ü":"→"}\r\r\ndata\n\nevent: lost\n\ndata: end\n\nevent: half\ndata: 1\n';
  const want = [
    ['history', '{"a":\n1}'],
    ['now', '{"ü":"→"}'],
    ['message', ''],
    ['message', 'end'],
  ];
  for (let first = 0; first <= text.length; first += 1) {
    for (const second of [first, Math.min(first + 1, text.length), text.length]) {
      const got = [];
      const push = reader((event, data) => got.push([event, data]));
      for (const piece of [text.slice(0, first), text.slice(first, second), text.slice(second)])
        push(piece);
      assert.deepEqual(got, want, `cut at ${first} and ${second}`);
    }
  }
});

test('attempts to connect again come ever later, within bounds', () => {
  assert.equal(pause(0, 0), 500);
  assert.equal(pause(0, 1), 1_000);
  assert.equal(pause(3, 1), 8_000);
  for (const failures of [4, 10, 1_000]) assert.equal(pause(failures, 1), 15_000);
});

test('the page says itself in a sentence', () => {
  const { history: event, now } = fixture();
  const history = model.opened(event);
  model.append(history, now.point);
  const whole = model.totals(history);
  assert.equal(
    sentence(now, whole),
    `4 agents, 6 calls in flight, 2 of them waiting. In the last 15 minutes: ${format.whole(whole.calls)} calls, ` +
      `spent ${format.money(whole.spend)} and saved ${format.money(whole.saved)}. 29 calls were refused.`,
  );
  const none = { ...now, in_flight: 0, totals: { ...now.totals, calls: 0 } };
  assert.equal(sentence(none, whole), 'Nobody has called yet.');
});

test('a shadow report claims no more than is known', () => {
  const { now } = fixture();
  const [policy] = now.cache.policies;
  const [, tried, force] = report(policy);
  assert.match(
    tried,
    /55 agreed, 3 did not, 3 could not be told\. 94\.8% were right; .* between 82% and 99%/,
  );
  assert.match(force, /Threshold in force: 0\.800/);
  const alike = {
    ...policy.alike,
    compared: 0,
    precision: { estimate: null, low: 0, high: 1 },
    threshold: null,
    would_hit_rate: null,
  };
  const nothing = report({ ...policy, alike }).join(' ');
  assert.match(nothing, /None was compared/);
  assert.match(nothing, /No threshold is in force yet/);
  assert.doesNotMatch(nothing, /right|NaN|null/);
  assert.match(report({ ...policy, alike: { ...alike, stopped: true } })[2], /^Nothing is given/);
});

test('charts show as much of the window as there is', () => {
  const lasting = (minutes) => model.span([1_000, 1_000 + minutes * 60_000]);
  assert.equal(model.span([]), 3 * 60_000);
  assert.deepEqual(
    [0, 1, 3, 3.1, 6, 6.1, 14.9, 20].map((minutes) => lasting(minutes) / 60_000),
    [3, 3, 3, 6, 6, 15, 15, 15],
  );
});

test('a point that took longer is no higher rate', () => {
  assert.deepEqual(model.perSecond([4, 4, 12, 4], [2_000, 4_001, 10_001, 12_001], 2_000), [2, 4_000 / 2_001, 2, 2]);
});
