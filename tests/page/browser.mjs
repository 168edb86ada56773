// The page in a real browser, in front of the program itself.
//
//   node tests/page/browser.mjs --tidegate target/release/tidegate --chromium /usr/bin/chromium \
//     --modules target/page [--shots docs/images] [--most-load 200]
//
// `--modules`: where playwright-core is installed. `--shots`: where pictures are written.
// `--most-load`: milliseconds that a cold load may take, which only a machine that does nothing else can
// judge; without it the times are told and not judged. Exits with 1 when anything is not as it should be,
// and says all of it.
import { createRequire } from 'node:module';
import { mkdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { call, load } from './load.mjs';
import { counted, start } from './instance.mjs';
import { count, money } from '../../src/admin/page/format.js';

const { values: options } = parseArgs({
  options: {
    tidegate: { type: 'string' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
    modules: { type: 'string' },
    shots: { type: 'string' },
    'most-load': { type: 'string' },
  },
});
const { chromium } = createRequire(join(resolve(options.modules), 'x'))('playwright-core');
const FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';
const LOADS = 9;
const LARGEST_SHOT = 200_000;

const faults = [];
let checks = 0;
function check(right, what) {
  checks += 1;
  if (!right) faults.push(what);
  console.log(`${right ? 'ok  ' : 'FAIL'} ${what}`);
}

const rest = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(what, fits, patience = 20_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await fits();
    if (found) return found;
    if (Date.now() > end) {
      check(false, what);
      return null;
    }
    await rest(100);
  }
}
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const metrics = async (at) => (await fetch(`${at.admin}/metrics`)).text();

const browser = await chromium.launch({ executablePath: options.chromium, args: FLAGS.split(' ') });

/** A page that notes whatever it must not do. */
async function open(at, context = {}, expected = /^$/) {
  const own = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...context });
  const page = await own.newPage();
  page.on('console', (said) => {
    if (['error', 'warning'].includes(said.type()) && !expected.test(said.text()))
      check(false, `the console says: ${said.text()}`);
  });
  page.on('pageerror', (error) => check(false, `an error of a script: ${error}`));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== at.admin && protocol !== 'data:') check(false, `a request outside: ${request.url()}`);
  });
  // when the first figures stand there
  await page.addInitScript(() => {
    const look = () => {
      const text = document.getElementById('sentence')?.textContent;
      if (text && !text.startsWith('Waiting')) window.shownAt ??= performance.now();
      else requestAnimationFrame(look);
    };
    look();
  });
  return { page, own };
}

async function opened(at, context) {
  const seen = await open(at, context);
  await seen.page.goto(at.admin, { waitUntil: 'domcontentloaded' });
  await seen.page.waitForFunction(() => window.shownAt);
  return seen;
}

async function loads(at) {
  const [loaded, shown] = [[], []];
  for (let turn = 0; turn < LOADS; turn += 1) {
    const { page, own } = await opened(at);
    const [time, first] = await page.evaluate(() => [
      performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd,
      window.shownAt,
    ]);
    loaded.push(time);
    shown.push(first);
    await own.close();
  }
  const said = (all) => all.map(Math.round).sort((a, b) => a - b).join(' ');
  console.log(`     loaded after ms: ${said(loaded)}; first figures after ms: ${said(shown)}`);
  const most = Number(options['most-load'] ?? Infinity);
  check(median(loaded) < most, `half of ${LOADS} cold loads take less than ${most} ms`);
  check(median(shown) < most, `half of them show figures in less than ${most} ms`);
}

/** A row of the table of agents as texts, by the agent's name. */
async function rowOf(page, agent) {
  return page.evaluate((name) => {
    const head = [...document.querySelectorAll('#agents-table thead th')].map((th) => th.textContent.trim());
    const row = [...document.querySelectorAll('#agents-table tbody tr')].find(
      (tr) => tr.querySelector('.name')?.textContent === name,
    );
    if (!row) return null;
    return Object.fromEntries([...row.cells].map((cell, at) => [head[at], cell.textContent.trim()]));
  }, agent);
}

async function numbers(at) {
  const { page, own } = await opened(at);
  const before = await page.textContent('#sentence');
  const stop = load(at.base);
  await until('the sentence moves', async () => (await page.textContent('#sentence')) !== before);
  await until('a chart has a line', () =>
    page.evaluate(() => document.querySelectorAll('#chart-calls path[d*="L"], #chart-calls path[d*="l"]').length > 0),
  );
  const one = await rowOf(page, 'crawler');
  await rest(2_500);
  const two = await rowOf(page, 'crawler');
  check(one && two && one.Calls !== two.Calls, `figures move under load: ${one?.Calls} then ${two?.Calls} calls`);
  const made = await stop();
  check(made > 20, `the load was one: ${made} calls`);
  await until('it is quiet', async () => counted(await metrics(at), 'tidegate_requests_in_flight') === 0);
  const text = await metrics(at);
  for (const agent of ['researcher', 'writer', 'reviewer', 'crawler']) {
    const label = `agent="${agent}"`;
    const calls = counted(text, 'tidegate_agent_calls_total', label) || counted(text, 'tidegate_agent_requests_total', label);
    const tokens = (type) => counted(text, 'tidegate_agent_tokens_total', label, `type="${type}"`);
    const wanted = [
      count(calls),
      `${count(tokens('input'))} in, ${count(tokens('output'))} out`,
    ];
    const row = await until(`the row of ${agent} is at rest`, async () => {
      const row = await rowOf(page, agent);
      return row && row.Calls === wanted[0] && row.Tokens === wanted[1] && row;
    });
    check(row, `${agent}: the page has the ${wanted.join(' calls, ')} of /metrics`);
  }
  const spent = counted(text, 'tidegate_spend_dollars_total');
  const card = await page.evaluate(() => {
    const cards = [...document.querySelectorAll('#cards .card')];
    return cards.find((one) => one.querySelector('h3').textContent === 'Spent').textContent;
  });
  const wanted = money(Math.round(spent * 1e9));
  check(spent > 0 && card.includes(wanted), `spent: the page has the ${wanted} of /metrics`);
  await own.close();
}

async function keyboard(at) {
  const { page, own } = await opened(at);
  const held = call(at.base, { agent: 'planner', text: 'long', stream: true, simulate: 'ttft=10ms; gap=200ms; tokens=100' });
  await until('the call is there', () => page.evaluate(() => document.querySelector('#calls-table tbody .end')));
  const all = await page.evaluate(() => {
    const visible = (node) => node.checkVisibility({ contentVisibilityAuto: true });
    const nodes = [...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')];
    return nodes.filter(visible).map((node, at) => {
      node.dataset.nth = at;
      const label = node.getAttribute('aria-label') ?? (node.labels?.[0]?.textContent || node.textContent);
      return { tag: node.tagName, label: label.trim() };
    });
  });
  check(all.length > 10 && all.every((one) => one.label), `each of ${all.length} controls has a name`);
  const reached = new Set();
  await page.evaluate(() => document.activeElement?.blur());
  for (let press = 0; press < all.length * 2 + 10; press += 1) {
    await page.keyboard.press('Tab');
    const nth = await page.evaluate(() => document.activeElement?.dataset?.nth);
    if (nth !== undefined) reached.add(nth);
  }
  const missed = all.filter((_, nth) => !reached.has(String(nth)));
  check(missed.length === 0, `each is reached by the keyboard${missed.map((one) => ` but ${one.tag} ${one.label}`)}`);

  const facts = await page.evaluate(() => ({
    language: document.documentElement.lang,
    landmarks: ['header', 'nav', 'main', 'footer'].map((name) => document.querySelectorAll(name).length),
    headings: [...document.querySelectorAll('h1, h2, h3')].map((node) => Number(node.tagName[1])),
    tables: [...document.querySelectorAll('table')].map((table) => ({
      id: table.id,
      caption: Boolean(table.caption?.textContent),
      scoped: [...table.querySelectorAll('thead th')].every((th) => th.scope === 'col'),
      heads: table.querySelectorAll('thead th').length,
    })),
    live: [...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map(
      (node) => node.getAttribute('aria-live') ?? node.getAttribute('role'),
    ),
    charts: [...document.querySelectorAll('figure svg')].every(
      (svg) => svg.getAttribute('aria-hidden') === 'true' || svg.getAttribute('aria-label') || svg.getAttribute('aria-labelledby'),
    ),
  }));
  check(facts.language === 'en' && facts.landmarks.every((many) => many === 1), 'landmarks are there, once each');
  check(
    facts.headings[0] === 1 && facts.headings.every((level, nth) => !nth || level <= facts.headings[nth - 1] + 1),
    'no level of headings is left out',
  );
  check(
    facts.tables.every((table) => table.caption && table.heads > 0 && table.scoped),
    `each of ${facts.tables.length} tables has a caption and headers: ${facts.tables.filter((table) => !table.caption || !table.scoped).map((table) => table.id)}`,
  );
  check(facts.live.length > 0 && facts.live.every((kind) => ['polite', 'status', 'off'].includes(kind)), `live regions are polite: ${facts.live}`);
  check(facts.charts, 'charts have a name or are left out for screen readers');

  // by keyboard alone: the call is ended
  const before = counted(await metrics(at), 'tidegate_requests_total', 'outcome="cancelled"');
  await page.focus('#calls-table tbody .end');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await until('it is told', async () => (await page.textContent('#news')).includes('cancelled'));
  check((await page.textContent('#news')).includes('planner'), 'the end of the call is told');
  const after = await until('it is counted', async () => {
    const many = counted(await metrics(at), 'tidegate_requests_total', 'outcome="cancelled"');
    return many === before + 1;
  });
  check(after, 'the call was cancelled, and no other');
  await held.catch(() => 0);
  await own.close();
}

async function readOnly(at) {
  const { page, own } = await opened(at);
  const held = call(at.base, { agent: 'planner', text: 'long', stream: true, simulate: 'ttft=10ms; gap=50ms; tokens=100' });
  await until('the call is there', () => page.evaluate(() => document.querySelector('#calls-table tbody')?.textContent.includes('planner')));
  const offered = await page.evaluate(() => [...document.querySelectorAll('.end')].filter((node) => node.getClientRects().length).length);
  check(offered === 0, 'where actions are off, nothing offers to end anything');
  await page.click('#policy-box summary');
  await until('the policy is shown', async () => (await page.textContent('#policy-text')).includes('policies:'));
  await held.catch(() => 0);
  await own.close();
}

async function withToken(at, token) {
  // the browser tells of the refusal that the page waits for
  const { page, own } = await open(at, {}, /status of 401/);
  await page.goto(at.admin, { waitUntil: 'domcontentloaded' });
  await page.waitForSelector('#token:not([hidden])');
  check((await page.textContent('#sentence')).startsWith('Waiting'), 'without the token it shows no figure');
  await page.fill('#token-field', token);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => window.shownAt);
  check(await page.isHidden('#token'), 'with the token it shows them');
  await own.close();
}

async function widths(at, shots) {
  const shot = async (page, name, full) => {
    if (!shots) return;
    const path = join(shots, name);
    await page.screenshot({ path, fullPage: full });
    check(statSync(path).size < LARGEST_SHOT, `${name} is smaller than 200 kB: ${statSync(path).size}`);
  };
  const colours = [];
  for (const colorScheme of ['light', 'dark']) {
    const { page, own } = await opened(at, { colorScheme, viewport: { width: 1280, height: 1330 } });
    await rest(2_500);
    colours.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    await shot(page, `page-${colorScheme}.png`, false);
    await own.close();
  }
  check(colours[0] !== colours[1], `light and dark differ: ${colours}`);
  const { page, own } = await opened(at, { viewport: { width: 390, height: 844 }, colorScheme: 'light', hasTouch: true });
  await rest(1_500);
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  check(wide <= room, `at 390 px nothing scrolls sideways: ${wide} of ${room}`);
  await shot(page, 'page-phone.png', false);
  await own.close();
}

const running = [];
try {
  const binary = resolve(options.tidegate);
  const off = await start(binary, '127.0.0.1:0');
  running.push(off);
  await loads(off);
  await readOnly(off);
  const on = await start(binary, "{ at: '127.0.0.1:0', actions: on }", { state: true });
  running.push(on);
  await numbers(on);
  await keyboard(on);
  const token = 'a-token-for-the-browser';
  const closed = await start(binary, `{ at: '127.0.0.1:0', token: ${token} }`);
  running.push(closed);
  await withToken(closed, token);
  const shots = options.shots && resolve(options.shots);
  if (shots) mkdirSync(shots, { recursive: true });
  const stop = load(on.base);
  await rest(shots ? 100_000 : 4_000);
  await widths(on, shots);
  await stop();
} catch (error) {
  check(false, `it could not go on: ${error.stack}`);
} finally {
  await browser.close();
  for (const one of running) await one.stop();
}
console.log(`${checks - faults.length} of ${checks} as they should be`);
for (const fault of faults) console.log(`FAIL ${fault}`);
process.exitCode = faults.length ? 1 : 0;
