// The page in a real browser, in front of the program itself.
//
//   node tests/page/browser.mjs --tidegate target/release/tidegate --chromium /usr/bin/chromium \
//     --modules target/page [--shots docs/images] [--most-load 200]
//
// `--modules`: where playwright-core is installed. `--shots`: where pictures are written.
// `--most-load`: milliseconds that a cold load may take; on a busy machine, or without it, the times are told
// and not judged. Exits with 1 when anything is not as it should be, and says all of it.
//
// numbers.mjs holds the figures to /metrics and /state, tables.mjs what each table shows to a fixture,
// reach.mjs is about who can use the page and on what.
import { mkdirSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { load } from './load.mjs';
import { start } from './instance.mjs';
import { numbers } from './numbers.mjs';
import { keyboard, readOnly, widths, withToken } from './reach.mjs';
import { laboratory, rest } from './support.mjs';
import { tables } from './tables.mjs';

const { values: options } = parseArgs({
  options: {
    tidegate: { type: 'string' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
    modules: { type: 'string' },
    shots: { type: 'string' },
    'most-load': { type: 'string' },
  },
});
const LOADS = 9;
/** Above so many that want each core, its times are not the page's own. */
const BUSY = 0.6;

// before the browser itself makes work
const wanted = loadavg()[0] / availableParallelism();
const lab = await laboratory(options);

const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];

async function loads(at) {
  const [loaded, shown] = [[], []];
  for (let turn = 0; turn < LOADS; turn += 1) {
    const { page, own } = await lab.opened(at);
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
  const most = Number(options['most-load']);
  const judge = (times, what) => {
    const bound = `${what} ${most || 'so many'} ms: half after ${Math.round(median(times))}`;
    if (!most) lab.pass(bound, 'no bound was given, see --most-load');
    else if (wanted > BUSY) lab.pass(bound, `the machine was busy, ${wanted.toFixed(2)} for each core`);
    else lab.check(median(times) < most, bound);
  };
  judge(loaded, `half of ${LOADS} cold loads take less than`);
  judge(shown, 'half of them show figures in less than');
}

const running = [];
try {
  const binary = resolve(options.tidegate);
  const off = await start(binary, '127.0.0.1:0');
  running.push(off);
  await loads(off);
  await readOnly(lab, off);
  await tables(lab);
  const on = await start(binary, "{ at: '127.0.0.1:0', actions: on }", { state: true });
  running.push(on);
  await numbers(lab, on);
  await keyboard(lab, on);
  const token = 'a-token-for-the-browser';
  const closed = await start(binary, `{ at: '127.0.0.1:0', token: ${token} }`);
  running.push(closed);
  await withToken(lab, closed, token);
  const shots = options.shots && resolve(options.shots);
  if (shots) mkdirSync(shots, { recursive: true });
  const stop = load(on.base);
  await rest(shots ? 100_000 : 4_000);
  await widths(lab, on, shots);
  await stop();
} catch (error) {
  lab.check(false, `it could not go on: ${error.stack}`);
} finally {
  await lab.browser.close();
  for (const one of running) await one.stop();
}
process.exitCode = lab.ended();
