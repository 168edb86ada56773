// Figures of the page against those of /metrics and /state: between two readings of them while calls run, and
// the very same when all is quiet.
import { load } from './load.mjs';
import { counted } from './instance.mjs';
import { metrics, rest, seen, state } from './support.mjs';
import { count, duration, money, several, share, words } from '../../src/admin/page/format.js';

/** A point of the charts takes two seconds, and is told within one more. */
const LATE_MS = 5_000;
const AGENTS = ['researcher', 'writer', 'reviewer', 'crawler', 'planner', 'scraper', 'batcher', 'helpdesk'];
const ENDS = {
  answered: /^complete$/,
  refused: /^refused$/,
  'upstream failed': /^(upstream_.*|truncated)$/,
  'out of time': /^deadline_/,
  'left or cancelled': /^(client_gone|cancelled)$/,
};
const RESULTS = {
  'the same': 'hit',
  'the same but for form': 'canonical',
  alike: 'semantic',
  'shared while it ran': 'joined',
  'in part': 'partial',
  'not kept': 'miss',
};
const FREE = ['hit', 'canonical', 'semantic', 'joined'];

const nano = (dollars) => Math.round(dollars * 1e9);

/** What /metrics has, in the page's own order. */
function books(text) {
  const of = (name, ...labels) => counted(text, `tidegate_${name}`, ...labels);
  const outcomes = [...text.matchAll(/^tidegate_requests_total\{.*outcome="(\w+)"\} (\d+)/gm)];
  const reasons = [
    ...text.matchAll(/^tidegate_agent_refusals_total\{agent="(\w+)".*reason="(\w+)"\} (\d+)/gm),
  ];
  const agent = (name) => {
    const label = `agent="${name}"`;
    const tokens = (type) => of('agent_tokens_total', label, `type="${type}"`);
    const why = reasons.filter(([, whose]) => whose === name);
    return {
      calls: of('agent_requests_total', label),
      input: tokens('input'),
      output: tokens('output'),
      waited: Math.floor(of('agent_wait_seconds_total', label) * 1_000 + 1e-6),
      refused: of('agent_refusals_total', label),
      reasons: why.map(([, , reason, many]) => `${words(reason)} ${many}`).join(', '),
      saved: nano(of('agent_saved_dollars_total', label)),
      spent: nano(of('agent_spend_dollars_total', label)),
    };
  };
  return {
    spent: nano(of('spend_dollars_total')),
    saved: nano(of('cache_saved_dollars_total')),
    spared: of('cache_saved_tokens_total'),
    input: of('tokens_total', 'type="input"'),
    output: of('tokens_total', 'type="output"'),
    ends: (fits) => outcomes.reduce((sum, [, how, many]) => sum + (fits.test(how) ? Number(many) : 0), 0),
    results: (kind) => of('cache_requests_total', `result="${kind}"`),
    asked: of('cache_requests_total'),
    agents: Object.fromEntries(AGENTS.map((name) => [name, agent(name)])),
  };
}

/** The number in a text that format.js made; nothing seen is nothing. */
function parsed(text) {
  const [, digits, unit] = /^\$?([\d.,]+)([kMG]?)/.exec(text) ?? [null, '0', ''];
  return Number(digits.replaceAll(',', '')) * { '': 1, k: 1e3, M: 1e6, G: 1e9 }[unit];
}

/** Each figure of the page that only grows: its name, its text, and its value in the books. */
function growing(shown, known) {
  const all = [
    ['Spent', shown.cards.Spent.big, money(known.spent)],
    ['Saved', shown.cards.Saved.big, money(known.saved)],
  ];
  for (const [label, fits] of Object.entries(ENDS))
    all.push([`calls ${label}`, shown.charts['chart-calls'][label], count(known.ends(fits))]);
  for (const [label, kind] of Object.entries(RESULTS))
    all.push([`cache, ${label}`, shown.charts['chart-cache'][label], count(known.results(kind))]);
  for (const row of shown.tables['agents-table']) {
    const agent = AGENTS.find((name) => row.Agent.startsWith(`${name} `));
    const own = known.agents[agent];
    if (!own) continue;
    all.push([`${agent}: calls`, row.Calls, count(own.calls)]);
    all.push([`${agent}: tokens in`, row.Tokens, count(own.input)]);
    all.push([`${agent}: tokens out`, row.Tokens.split(', ')[1], count(own.output)]);
    all.push([`${agent}: refused`, row.Refused, count(own.refused)]);
    all.push([`${agent}: saved`, row.Saved, money(own.saved)]);
    all.push([`${agent}: spent`, row.Spent, money(own.spent)]);
  }
  return all;
}

/** Limits that nothing takes from while a test runs: those of days, by agent, policy and measure. */
function lasting(view) {
  const all = new Map();
  for (const { agent, limits } of view.agents) {
    for (const limit of limits)
      if (['everyone', 'few'].includes(limit.policy)) all.set(`${agent} ${limit.policy} ${limit.measure}`, limit);
  }
  return all;
}

const amount = ({ measure }, value) => (measure === 'spend' ? money(value) : count(value));

/** Bars as the page has them, under the same names. */
function bars(shown) {
  const all = new Map();
  for (const [agent, limits] of Object.entries(shown.limits)) {
    for (const bar of limits) {
      const [, policy] = /^policy (\w+),/.exec(bar.policy);
      all.set(`${agent} ${policy} ${bar.what.replaceAll(' ', '_')}`, bar);
    }
  }
  return all;
}

async function underLoad({ check }, at, page) {
  const [before, limits] = [books(await metrics(at)), lasting(await state(at))];
  await rest(LATE_MS);
  const shown = await seen(page);
  const [after, later] = [books(await metrics(at)), lasting(await state(at))];
  const least = growing(shown, before);
  const most = growing(shown, after);
  const wrong = least
    .map(([what, text, low], nth) => [what, text, low, most[nth][2]])
    .filter(([, text, low, high]) => !(parsed(low) <= parsed(text) && parsed(text) <= parsed(high)));
  check(least.length > 50 && !wrong.length, `under load each of ${least.length} figures lies between two readings of /metrics${wrong.map((one) => `; ${one}`)}`);
  const drawn = bars(shown);
  const off = [...limits].filter(([name, limit]) => {
    const bar = drawn.get(name);
    if (!bar) return true;
    const [used, held] = [parsed(bar.said), parsed(/ \+ (.*) held/.exec(bar.said)?.[1])];
    const [known, last] = [limit, later.get(name)];
    // a call that runs counts by what it may cost, and is put right at its end
    const low = parsed(amount(known, known.used - known.held));
    const high = parsed(amount(last, last.used + last.held)) + held;
    return !(low <= used && used <= high) || !bar.said.includes(` of ${amount(limit, limit.limit)} (`);
  });
  check(limits.size > 8 && !off.length, `and each of ${limits.size} limits between two of /state${off.map(([name, { used }]) => `; ${name}: ${used}, ${JSON.stringify(drawn.get(name))}`)}`);
}

/** The row of an agent as the books have it. */
function row(own) {
  return {
    Calls: count(own.calls),
    Tokens: `${count(own.input)} in, ${count(own.output)} out`,
    Waited: own.waited ? duration(own.waited) : '–',
    Refused: own.refused ? `${count(own.refused)} ${own.reasons}` : '–',
    Saved: own.saved ? money(own.saved) : '–',
    Spent: money(own.spent),
  };
}

async function agentsAtRest({ check, until }, page, known) {
  for (const [agent, own] of Object.entries(known.agents)) {
    const wanted = row(own);
    let there = null;
    const right = await until(
      `the row of ${agent} is at rest`,
      async () => {
        there = (await seen(page)).tables['agents-table'].find((one) => one.Agent.startsWith(`${agent} `));
        return there && Object.entries(wanted).every(([head, text]) => there[head] === text);
      },
      8_000,
    );
    const said = JSON.stringify(wanted);
    check(right, `${agent}: the page has the ${said} of /metrics${right ? '' : `, but ${JSON.stringify(there)}`}`);
  }
}

/** What a load must have brought about for the checks to mean anything. */
function richness({ check }, { agents, results, ends }) {
  const { scraper, batcher, helpdesk } = agents;
  check(scraper.refused > 0 && ends(ENDS.refused) > 0, `calls were refused: ${scraper.reasons}`);
  check(batcher.waited > 0, `calls have waited: ${batcher.waited} ms`);
  check(helpdesk.saved > 0, `answers were spared: ${money(helpdesk.saved)}`);
  const kinds = Object.entries(RESULTS).map(([label, kind]) => [label, results(kind)]);
  const missing = kinds.filter(([label, many]) => !many && label !== 'in part');
  check(!missing.length, `the cache answered in every way: ${kinds.map((one) => one.join(' '))}`);
}

async function wholeAtRest({ check, until }, page, known) {
  const cards = {
    Spent: [known.spent, (small) => small.startsWith(`${money(known.spent)} since`)],
    Saved: [known.saved, (small) => small.endsWith(`${money(known.saved)} since the start`)],
  };
  for (const [title, [value, fits]] of Object.entries(cards)) {
    const card = async () => (await seen(page)).cards[title];
    const right = await until(`${title} is at rest`, async () => (await card()).big === money(value) && fits((await card()).small), 8_000);
    check(value > 0 && right, `${title}: the page has the ${money(value)} of /metrics: ${JSON.stringify(await card())}`);
  }
  const named = (labels, value) => Object.fromEntries(Object.entries(labels).map(([label, key]) => [label, count(value(key))]));
  const wanted = {
    'chart-calls': named(ENDS, known.ends),
    'chart-cache': named(RESULTS, known.results),
    'chart-money': { spent: money(known.spent), saved: money(known.saved) },
    'chart-tokens': { in: count(known.input), out: count(known.output), saved: count(known.spared) },
  };
  for (const [id, figures] of Object.entries(wanted)) {
    const said = JSON.stringify(figures);
    const same = await until(`${id} is at rest`, async () => JSON.stringify((await seen(page)).charts[id]) === said, 8_000);
    check(same, `${id}: below it stand the ${said} of /metrics`);
  }
  const free = FREE.reduce((sum, kind) => sum + known.results(kind), 0);
  const text = `${share(free / known.asked)} of ${several(known.asked, 'call')} `;
  check((await seen(page)).cacheSaid.startsWith(text), `of the cache: ${text.trim()}`);
}

async function limitsAtRest({ check }, at, page, known) {
  const drawn = bars(await seen(page));
  const limits = lasting(await state(at));
  const percent = (part) => `${(Math.min(part, 1) * 100).toFixed(1)}%`;
  const wrong = [...limits].filter(([name, limit]) => {
    const bar = drawn.get(name);
    const part = limit.used / limit.limit;
    const text = `${amount(limit, limit.used)} of ${amount(limit, limit.limit)} (${share(part)})`;
    return !bar?.said.startsWith(text) || bar.used !== percent(part) || bar.held !== '0.0%';
  });
  check(limits.size > 8 && !wrong.length, `bars and texts of ${limits.size} limits are those of /state${wrong.map(([name, { used }]) => `; ${name}: ${used}, ${JSON.stringify(drawn.get(name))}`)}`);
  const money = [...limits].filter(([, { measure }]) => measure === 'spend');
  const differ = money.filter(([, { scope, used }]) => known.agents[scope]?.spent !== used);
  check(money.length > 4 && !differ.length, `and those of money what /metrics says was spent${differ.map(([name]) => `; ${name}`)}`);
}

export async function numbers(lab, at) {
  const { check, until, opened } = lab;
  const { page, own } = await opened(at);
  const before = (await seen(page)).sentence;
  const stop = load(at.base);
  await until('the sentence moves', async () => (await seen(page)).sentence !== before);
  await until('a chart has a line', () =>
    page.evaluate(() => document.querySelectorAll('#chart-calls path[d*="L"], #chart-calls path[d*="l"]').length > 0),
  );
  await until('every agent is there', async () => {
    const there = (await seen(page)).tables['agents-table'];
    return AGENTS.every((name) => there.some((row) => row.Agent.startsWith(`${name} `)));
  });
  const calls = async () => (await seen(page)).tables['agents-table'].find((one) => one.Agent.startsWith('crawler '))?.Calls;
  const one = await calls();
  await underLoad(lab, at, page);
  const two = await calls();
  check(one && two && one !== two, `figures move under load: ${one} then ${two} calls`);
  const made = await stop();
  check(made > 20, `the load was one: ${made} calls`);
  await until('it is quiet', async () => counted(await metrics(at), 'tidegate_requests_in_flight') === 0);
  const known = books(await metrics(at));
  richness(lab, known);
  await agentsAtRest(lab, page, known);
  await wholeAtRest(lab, page, known);
  await limitsAtRest(lab, at, page, known);
  await own.close();
}
