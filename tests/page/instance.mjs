// A Tidegate with its built-in simulator behind it, for as long as a test needs it.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const PATIENCE_MS = 30_000;

const POLICY = `
listen: 127.0.0.1:0
server: { drain: { delay: 0s, timeout: 1s } }
telemetry: { access_log: off }
upstreams:
  openai: { builtin: simulator, concurrency: 8 }
  anthropic: { builtin: simulator, dialect: anthropic }
policies:
  - { name: everyone, limits: { requests: 9000/day calendar, spend: $0.10/day } }
  - { name: crawlers, match: { agent: crawler }, limits: { requests: 500/min burst 200, concurrency: 2 } }
  - { name: few, match: { agent: scraper }, limits: { requests: 5/day calendar hard } }
  - { name: likeness, match: { agent: helpdesk }, cache: { ttl: 1h, canonical: true, semantic: { mode: on, explore: 0.1% } } }
  - { name: answers, match: { agent: writer }, cache: { ttl: 1h, canonical: true, semantic: shadow } }
`;

/** Starts one; `admin` is that section of the policy. */
export async function start(binary, admin, { state = false } = {}) {
  const home = mkdtempSync(join(tmpdir(), 'tidegate-page-'));
  const file = join(home, 'policy.yaml');
  const kept = state ? `state: ${join(home, 'state')}\n` : '';
  writeFileSync(file, `admin: ${admin}\n${kept}${POLICY}`);
  const child = spawn(binary, ['run', '-c', file, '--workers', '2', '--log-form', 'json'], {
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(home, { recursive: true, force: true });
  };
  const told = [];
  const serving = await new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`it does not start: ${told}`)), PATIENCE_MS);
    child.once('exit', () => fail(new Error(`it ended: ${told}`)));
    createInterface({ input: child.stderr }).on('line', (line) => {
      told.push(line);
      if (!line.includes('"serving"')) return;
      clearTimeout(timer);
      done(JSON.parse(line));
    });
  }).catch(async (fault) => {
    await stop();
    throw fault;
  });
  return { home, stop, base: serving.listen.split(' ')[0], admin: serving.admin };
}

/** Sums of samples whose labels hold all of `labels`. */
export function counted(text, name, ...labels) {
  let sum = 0;
  for (const line of text.split('\n')) {
    const found = /^([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)/.exec(line);
    if (!found || found[1] !== name) continue;
    if (labels.every((label) => (found[2] ?? '').includes(label))) sum += Number(found[3]);
  }
  return sum;
}
