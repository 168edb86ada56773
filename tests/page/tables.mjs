// What each table and the curve of thresholds show, held to the numbers of fixture.json. No proxy runs: serve.mjs
// gives the page the fixture. What is wanted stands here as people are to read it, and is not made with the page's
// own code.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { seen } from './support.mjs';

const { history, now } = JSON.parse(readFileSync(new URL('fixture.json', import.meta.url), 'utf8'));

const AGENTS = [
  ['researcher team growth · known by key', '3 running, 2 waiting', '620', '48.2 s', '–', '210k in, 61.3k out', '$0.0168', '$0.0989'],
  ['coder team platform · known by key', '2 running', '240', '120 ms', '–', '140k in, 30.1k out', '$0.0168', '$0.0483'],
  ['flood known by header · caught in a loop', '1 running', '82', '9 s', '31 limit requests 28, queue full 3', '4,100 in, 900 out', '–', '$0.001170'],
  ['<img src=x onerror=alert(1)> known by address', '–', '1', '–', '–', '0 in, 0 out', '–', '$0'],
];
const AGENT_HEADS = ['Agent', 'Now', 'Calls', 'Waited', 'Refused', 'Tokens', 'Saved', 'Spent'];

/** Whose, which, its words, and how wide its bars are: used and held. */
const LIMITS = [
  ['researcher', 'requests', '412 + 3 held of 600 (69%), free in 41.2 s', '68.7%', '0.5%'],
  ['researcher', 'tokens', '352k + 21k held of 400k (93.3%), free in 52.8 s', '88.0%', '5.3%'],
  ['researcher', 'spend', '$1.87 + $0.0120 held of $2.00 (94.3%), free in 10 h 54 min', '93.7%', '0.6%'],
  ['researcher', 'concurrency', '3 of 16 (19%)', '18.8%', '0.0%'],
  ['coder', 'requests', '96 + 2 held of 600 (16%), free in 9.6 s', '16.0%', '0.3%'],
  ['flood', 'requests', '600 of 600 (100%), free in 1 min', '100.0%', '0.0%'],
  ['', 'spend, of session b7f0', '$0.4100 of $0.5000 (82%), free in 1 h', '82.0%', '0.0%'],
];

const UPSTREAM_HEADS = ['Upstream', 'Breaker', 'Running', 'Waiting', 'Pacing', 'Connections', 'Sent again', 'Addresses'];
const MANY = Array.from({ length: 8 }, (_, nth) => `10.0.1.${nth + 1}:8000: well, ${nth + 1} ms`).join('; ');
const UPSTREAMS = [
  ['openai', 'well', '3', '2', 'paused for 1.2 s, 500 calls/min, 200k tokens/min', '5 open, 2 idle', '2', 'api.openai.com:443: well, 212 ms'],
  ['local', 'well', '2 of 64', '0', 'as fast as calls come', '4 open, 2 idle', '5', '10.0.0.4:8000: well, 31 ms; 10.0.0.5:8000: ejected, back in 8.2 s'],
  ['groq', 'open: no calls, tries again in 11.4 s', '0', '0', 'as fast as calls come', '0 open, 0 idle', '3', 'api.groq.com:443: ejected, back in 11.4 s'],
  ['vllm', 'trying again', '1 of 4', '7', '12 at once', '10 open, 0 idle', '12.3k', `${MANY}; and 2 more`],
];
/** What a pointer that rests there is told, by upstream. */
const TITLES = {
  openai: '9 connections made, 812 calls went over one made earlier',
  local: '12 connections made, 96 calls went over one made earlier; 1 of 2 keys set aside',
  groq: '4 connections made, 1 call went over one made earlier',
  vllm: '31 connections made, 4,200 calls went over one made earlier',
};
const LEVELS = { openai: 'good', local: 'good', groq: 'bad', vllm: 'warn' };

const TASK_HEADS = ['Age', 'Task', 'State', 'Agent', 'Model', 'Attempts', 'Tokens so far', 'Cost', 'Cancel'];
const TASKS = [
  ['2.1 s', 'task_7n3k2v8q', 'queued, next of its agent', 'researcher', 'gpt-4o', '0', '0', '–', 'Cancel'],
  ['31 s', 'task_2b9d4f6h', 'failed: the upstream broke the answer off', 'coder', 'gpt-4o', '3', '12', '$0.001204', ''],
];
const TASKS_SAID =
  '17 tasks so far; 1 queued, 1 running, 14 succeeded, 1 failed; the oldest has waited 2.1 s. They keep 239 KiB. Webhooks: 15 sent, 0 to go, 0 given up. Streams: 1 can be taken up again, 2 were.';

const CACHE_HEADS = ['Policy', 'Answers in memory', 'Memory', 'Pushed out', 'Answers on disk', 'Disk'];
const CACHE = [['once', '212', '4.59 MiB of 64 MiB', '4', '230', '4.86 MiB of 1 GiB']];
const CACHE_SAID = '49% of 532 calls that a policy caches were answered from here, since the start.';
const REPORT = [
  'Policy once',
  'Likeness only compares, gives nothing.',
  '1,240 questions looked up in other words. 148 had a like one kept (12%); 22 more were the same but for form.',
  '61 answers compared with what upstream said: 55 agreed, 3 did not, 3 could not be told. 94.8% were right; the true share lies between 82% and 99%, 95 times of 100. Given from here, they had saved $0.0410.',
  'Threshold in force: 0.800. 1 answer is no longer given by likeness.',
];

const ATTENTION = [
  'Upstream groq gets no calls: its breaker is open.',
  'Agent flood repeats itself: the guard against loops has it.',
  'The last reload failed, the policy before it is in force: limits.requests: expected AMOUNT/PERIOD.',
  'Upstream openai asked us to slow down; its calls wait.',
  'Upstream local: 1 of 2 addresses set aside.',
  'Agent researcher: near the end of spend by policy money.',
  'Agent flood: at the end of requests by policy everyone.',
];

/** Agent, model, what, stage, bytes, upstream; ages and tokens grow while one looks. */
const CALL_HEADS = ['Agent', 'Model', 'What', 'Stage', 'Bytes', 'Upstream'];
const CALLS = [
  ['researcher', 'gpt-4o', 'chat', 'answer arrives', '177 KiB', 'openai'],
  ['coder', 'llama-3.3-70b', 'chat', 'answer arrives', '19.6 KiB', 'local'],
  ['coder', 'llama-3.3-70b', 'chat', 'waits for the answer to begin', '0 B', 'local'],
  ['researcher', 'gpt-4o', 'chat', 'waits for a place, next of its agent', '0 B', 'openai'],
  ['researcher', 'gpt-4o', 'chat', 'waits for a place, 1 before it', '0 B', 'openai'],
  ['nobody known', '–', 'embeddings', 'its request arrives', '0 B', '–'],
];

const picked = (rows, heads) => rows.map((row) => heads.map((head) => row[head]));

/** One check of two lists; where they differ, the first place is told. */
function same({ check }, what, found, wanted) {
  const [left, right] = [found.flat(), wanted.flat()];
  const whole = left.length === right.length && right.every((text, nth) => text === left[nth]);
  const first = right.findIndex((text, nth) => text !== left[nth]);
  check(right.length > 0 && whole, `${what}: ${right.length} texts are those of the fixture${whole ? '' : `, but not ${JSON.stringify(left[first])}, wanted ${JSON.stringify(right[first])}`}`);
}

/** What texts do not show: titles of cells, and the colour of a breaker. */
const beside = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('#upstreams-table tbody tr')].map((row) => ({
      name: row.cells[0].textContent,
      titles: [...row.cells].map((cell) => cell.title).filter(Boolean).join('; '),
      level: row.querySelector('.state').dataset.level,
    })),
  );

/** Calls run on: all of them by the same seconds, and thirty tokens in each. */
function calls({ check }, rows) {
  const told = (text) => Number(text.replace(',', ''));
  const beats = rows.slice(0, 2).map((row, nth) => (told(row['Tokens so far']) - now.calls[nth].tokens) / 30);
  check(Number.isInteger(beats[0]) && beats[0] >= 0 && beats[0] === beats[1], `tokens of running streams are those of the fixture and of ${beats} beats`);
  const rest = rows.slice(2).map((row) => row['Tokens so far']);
  check(rest.join(' ') === '0 – – –', `tokens of the others: ${rest.join(' ')}`);
  const tenths = (text) => {
    const [, number, unit] = /^([\d.]+) (ms|s)$/.exec(text) ?? [];
    return Math.round(Number(number) * (unit === 's' ? 10 : 0.01));
  };
  const ages = rows.slice(1).map((row) => tenths(row.Age));
  const wanted = now.calls.slice(1).map((call) => Math.round(call.age_ms / 100) + 10 * beats[0]);
  // half of a tenth may be rounded either way
  const near = ages.every((age, nth) => Math.abs(age - wanted[nth]) <= 1);
  check(near, `ages are those of the fixture and of as many seconds: ${ages} for ${wanted}`);
}

/** The sums below the charts: the fixture's, and the first points once more, which serve.mjs sends anew. */
function charts({ check }, shown) {
  const columns = ['complete', 'refused', 'upstream', 'deadline', 'client_gone'].map((name) => `calls_${name}`);
  const kinds = ['hit', 'canonical', 'semantic', 'joined', 'partial', 'miss'].map((name) => `cache_${name}`);
  const { points } = history;
  const sum = (name, more) => [...points[name], ...points[name].slice(0, more)].reduce((all, one) => all + one, 0);
  const comma = (value) => value.toLocaleString('en-US');
  const found = [...Object.values(shown['chart-calls']), ...Object.values(shown['chart-cache'])].join(' ');
  const turns = [...Array(30).keys()].map((more) => [...columns, ...kinds].map((name) => comma(sum(name, more))).join(' '));
  const at = turns.indexOf(found);
  check(at >= 0, `below the charts of calls and cache stand the sums of the fixture and ${at} points: ${found}`);
  if (at < 0) return;
  // as serve.mjs goes on between two looks, each look is its own
  const money = ['spend_nano', 'saved_nano'].map((name) => `$${(sum(name, at) / 1e9).toFixed(4)}`);
  const told = Object.values(shown['chart-money']);
  check(told.join() === money.join(), `below that of money ${told}`);
}

/** Each point of the curve: its row in the table, and where its lines stand. */
function curve({ check }, report) {
  const { curve: points, looks, threshold } = now.cache.policies[0].alike;
  const part = (value) => {
    if (value === null) return '–';
    const percent = value * 100;
    const near = percent < 10 || percent > 90;
    return percent > 0 && percent < 0.1 ? '<0.1%' : `${percent.toFixed(near ? 1 : 0).replace(/\.0$/, '')}%`;
  };
  const rows = points.map((one) => {
    const { estimate, low, high } = one.precision;
    return [one.threshold.toFixed(3), `${one.would}`, part(one.would / looks), `${one.compared}`, part(estimate), part(low), part(high)];
  });
  same({ check }, 'the curve in figures', report.curve, rows);
  // the plot goes from 40 to 352 and, for shares of one, from 126 up to 8
  const places = (path) => [...path.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [0.8 + ((Number(x) - 40) / 312) * 0.2, (126 - Number(y)) / 118]);
  const stands = (name, wanted) => {
    const found = places(report.paths[name]);
    const right = found.length === wanted.length && found.every(([x, y], nth) => Math.abs(x - wanted[nth][0]) < 1e-4 && Math.abs(y - wanted[nth][1]) < 1e-3);
    check(right, `${name}: ${wanted.length} points of the curve stand where they must`);
  };
  const known = points.filter(({ precision }) => precision.estimate !== null);
  const by = (value) => (one) => [one.threshold, value(one)];
  stands('line s1', points.map(by((one) => one.would / looks)));
  stands('line s3', known.map(by((one) => one.precision.estimate)));
  stands('band', [...known.map(by((one) => one.precision.high)), ...[...known].reverse().map(by((one) => one.precision.low))]);
  check(report.hair === 40 + ((threshold - 0.8) / 0.2) * 312, `the upright line stands at ${threshold}`);
}

async function served() {
  const child = spawn(process.execPath, [fileURLToPath(new URL('serve.mjs', import.meta.url))], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise((done, fail) => {
    createInterface({ input: child.stdout }).once('line', done);
    child.once('exit', () => fail(new Error('serve.mjs ended')));
  });
  return { child, admin: new URL(line).origin };
}

export async function tables(lab) {
  const { child, admin } = await served();
  try {
    const { page, own } = await lab.opened({ admin });
    await lab.until('the charts are drawn', async () => Object.values((await seen(page)).charts['chart-calls'])[0] > '');
    const shown = await seen(page);
    const { tables: all } = shown;
    same(lab, 'agents', picked(all['agents-table'], AGENT_HEADS), AGENTS);
    const limits = [...Object.entries(shown.limits), ['', shown.others]].flatMap(([agent, bars]) => bars.map((one) => [agent, one.what, one.said, one.used, one.held]));
    same(lab, 'limits', limits, LIMITS);
    same(lab, 'upstreams', picked(all['upstreams-table'], UPSTREAM_HEADS), UPSTREAMS);
    const asides = await beside(page);
    same(lab, 'breakers and pools', asides.map((one) => [one.name, one.level, one.titles]), Object.keys(LEVELS).map((name) => [name, LEVELS[name], TITLES[name]]));
    same(lab, 'what is left out', shown.more, ['14 more in the policy, without a call so far.']);
    same(lab, 'lanes', picked(all['lanes-table'], ['Route', 'Running', 'Waiting']), [['small', '2 of 2', '1 of 256']]);
    same(lab, 'tasks', picked(all['tasks-table'], TASK_HEADS), TASKS);
    same(lab, 'all tasks', [shown.tasksSaid], [TASKS_SAID]);
    same(lab, 'cache', picked(all['cache-table'], CACHE_HEADS), CACHE);
    same(lab, 'the whole cache', [shown.cacheSaid], [CACHE_SAID]);
    same(lab, 'what needs a look', shown.attention, ATTENTION);
    same(lab, 'calls', picked(all['calls-table'], CALL_HEADS), CALLS);
    calls(lab, all['calls-table']);
    charts(lab, shown.charts);
    lab.check(shown.reports.length === 1, 'one policy has a report of likeness');
    same(lab, 'the report of likeness', shown.reports[0].said.slice(0, REPORT.length), REPORT);
    curve(lab, shown.reports[0]);
    await own.close();
  } finally {
    child.kill();
  }
}
