// What every check of the page in a browser needs: a list of findings, pages that note what they must not
// do, and eyes for what stands on them.
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';

export const rest = (ms) => new Promise((done) => setTimeout(done, ms));
export const metrics = async (at) => (await fetch(`${at.admin}/metrics`)).text();
export const state = async (at) => (await fetch(`${at.admin}/state`)).json();

/** A browser, and what was found with it. */
export async function laboratory({ chromium: executablePath, modules }) {
  const { chromium } = createRequire(join(resolve(modules), 'x'))('playwright-core');
  const browser = await chromium.launch({ executablePath, args: FLAGS.split(' ') });
  const faults = [];
  const unjudged = [];
  let checks = 0;

  function check(right, what) {
    checks += 1;
    if (!right) faults.push(what);
    console.log(`${right ? 'ok  ' : 'FAIL'} ${what}`);
  }

  /** Neither right nor wrong: what would tell was not there. */
  function pass(what, why) {
    unjudged.push(what);
    console.log(`not judged: ${what}: ${why}`);
  }

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
      if (origin !== at.admin && protocol !== 'data:')
        check(false, `a request outside: ${request.url()}`);
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

  /** The last lines, and the code to leave with. */
  function ended() {
    const aside = unjudged.length ? `; ${unjudged.length} not judged` : '';
    console.log(`${checks - faults.length} of ${checks} as they should be${aside}`);
    for (const fault of faults) console.log(`FAIL ${fault}`);
    return faults.length ? 1 : 0;
  }

  return { browser, check, pass, until, open, opened, ended };
}

/**
 * All that stands on the page at one moment, as texts: `sentence`, `cacheSaid`, `cards` and `charts` by their
 * names, `tables` by their ids (rows, each by the heads of its columns), and `limits` by whose they are.
 */
export function seen(page) {
  return page.evaluate(() => {
    const all = (node, selector) => [...node.querySelectorAll(selector)];
    const text = (node) => {
      const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
      const parts = [];
      while (walker.nextNode()) {
        const { parentElement, textContent } = walker.currentNode;
        if (!parentElement.closest('[hidden]')) parts.push(textContent.trim());
      }
      return parts.filter(Boolean).join(' ');
    };
    const rows = (table) => {
      const heads = all(table, 'thead th').map(text);
      return all(table, 'tbody tr').map((row) =>
        Object.fromEntries([...row.cells].map((cell, at) => [heads[at], text(cell)])),
      );
    };
    const limit = (node) => ({
      what: text(node.querySelector('.what')),
      said: text(node.querySelector('.said')),
      used: node.querySelector('.used').getAttribute('width'),
      held: node.querySelector('.held').getAttribute('width'),
      policy: node.title,
    });
    const agents = all(document, '#agents-table tbody tr');
    return {
      sentence: text(document.querySelector('#sentence')),
      cacheSaid: text(document.querySelector('#cache-said')),
      tasksSaid: text(document.querySelector('#tasks-said')),
      attention: all(document, '#attention li').map(text),
      more: all(document, '[id$="-more"]').map(text).filter(Boolean),
      cards: Object.fromEntries(
        all(document, '#cards .card').map((card) => [
          text(card.querySelector('h3')),
          { big: text(card.querySelector('.big')), small: text(card.querySelector('.small')) },
        ]),
      ),
      charts: Object.fromEntries(
        all(document, 'figure').map((figure) => [
          figure.id,
          Object.fromEntries(
            all(figure, '.legend tbody tr').map((row) => [text(row.cells[0]), text(row.cells[2])]),
          ),
        ]),
      ),
      tables: Object.fromEntries(all(document, 'table[id]').map((table) => [table.id, rows(table)])),
      names: agents.map((row) => text(row.querySelector('.name'))),
      limits: Object.fromEntries(
        agents.map((row) => [text(row.querySelector('.name')), all(row, '.limit').map(limit)]),
      ),
      others: all(document, '#other-limits .limit').map(limit),
      reports: all(document, '#reports .report').map((report) => ({
        said: all(report, 'h4, p').map(text).filter(Boolean),
        curve: all(report, '.curve tbody tr').map((row) => [...row.cells].map((cell) => text(cell))),
        paths: Object.fromEntries(
          all(report, '.curve svg.plot > path').map((path) => [
            path.getAttribute('class'),
            path.getAttribute('d'),
          ]),
        ),
        hair: Number(report.querySelector('.curve .hair')?.getAttribute('x1')),
      })),
    };
  });
}
