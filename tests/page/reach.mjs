// Who can use the page, and on what: by keyboard alone, without actions, with a token, light and dark, on a phone.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { call } from './load.mjs';
import { counted } from './instance.mjs';
import { metrics, rest } from './support.mjs';

const LARGEST_SHOT = 300_000;

export async function keyboard(lab, at) {
  const { check, until, opened } = lab;
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

export async function readOnly(lab, at) {
  const { check, until, opened } = lab;
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

export async function withToken({ check, open }, at, token) {
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

export async function widths({ check, opened }, at, shots) {
  const shot = async (page, name, full) => {
    if (!shots) return;
    const path = join(shots, name);
    await page.screenshot({ path, fullPage: full });
    check(statSync(path).size < LARGEST_SHOT, `${name} is smaller than 300 kB: ${statSync(path).size}`);
  };
  const colours = [];
  for (const colorScheme of ['light', 'dark']) {
    const { page, own } = await opened(at, { colorScheme, viewport: { width: 1280, height: 1330 } });
    await rest(2_500);
    colours.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    await shot(page, `page-${colorScheme}.png`, false);
    if (colorScheme === 'light') {
      await page.evaluate(() => document.getElementById('agents').scrollIntoView({ behavior: 'instant' }));
      await rest(500);
      await shot(page, 'page-agents.png', false);
    }
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
