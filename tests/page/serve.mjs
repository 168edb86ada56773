// The page with the fixture behind it, to look at without a proxy: node tests/page/serve.mjs [PORT]
//
// Headers are those that the admin door is to send. MODE in the environment: `empty` (nobody has called),
// `token` (asks for one: `secret`) or `still` (falls silent after some seconds).
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';

const home = new URL('../../src/admin/page/', import.meta.url);
const { history, now } = JSON.parse(readFileSync(new URL('fixture.json', import.meta.url), 'utf8'));
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.svg': 'image/svg+xml',
};
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const mode = process.env.MODE ?? '';

const EMPTY = {
  agents: [],
  agents_total: 0,
  calls: [],
  calls_total: 0,
  upstreams: [],
  limits: [],
  lanes: [],
  tasks: null,
  task_rows: null,
  cache: null,
  why: [],
  in_flight: 0,
  waiting: 0,
  totals: { calls: 0, spend_nano: 0, saved_nano: 0, cache: {} },
};

/** The fixture, moved to now and moving on. */
function live(answer) {
  answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const send = (event, value) =>
    answer.write(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`);
  const ends = history.points.end_ms;
  const shift = Date.now() - now.at_ms;
  const started_ms = history.started_ms + shift;
  const columns = { ...history.points, end_ms: ends.map((end) => end + shift) };
  const old =
    mode === 'empty' ? Object.fromEntries(Object.keys(columns).map((name) => [name, []])) : columns;
  send('history', { ...history, started_ms, points: old });
  let beat = 0;
  const timer = setInterval(() => {
    if (mode === 'still' && beat > 3) return;
    const nth = Math.floor(beat / 2);
    const from = nth % ends.length;
    const one = Object.fromEntries(
      Object.entries(history.points).map(([name, column]) => [name, column[from]]),
    );
    const point = {
      ...one,
      n: history.last + 1 + nth,
      end_ms: now.point.end_ms + shift + nth * history.every_ms,
    };
    const grown = (age) => age + beat * 1_000;
    const calls = now.calls.map((call) => ({
      ...call,
      age_ms: grown(call.age_ms),
      tokens: call.tokens && call.tokens + beat * 30,
    }));
    const changed = mode === 'empty' ? { ...EMPTY, point: null } : { calls, point };
    send('now', {
      ...now,
      started_ms,
      policy: { loaded_ms: started_ms + 120 },
      at_ms: now.at_ms + shift + beat * 1_000,
      ...changed,
    });
    beat += 1;
  }, 1_000);
  answer.on('close', () => clearInterval(timer));
}

const server = createServer((request, answer) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const refuse = (status, message) => {
    answer.writeHead(status, { 'content-type': 'application/json' });
    answer.end(JSON.stringify({ error: { message } }));
  };
  if (
    mode === 'token' &&
    /^\/(live|config)$/.test(pathname) &&
    request.headers.authorization !== 'Bearer secret'
  ) {
    return refuse(401, 'the token of this instance is needed');
  }
  if (pathname === '/live') return live(answer);
  if (request.method === 'POST')
    return request.headers['x-tidegate-page'] ? answer.end() : refuse(403, 'not from the page');
  if (pathname === '/config')
    return answer.end('listen: 127.0.0.1:8080\nupstreams:\n  openai: { key: "<redacted>" }\n');
  const name = pathname === '/' ? 'index.html' : /^\/page\/([\w.]+)$/.exec(pathname)?.[1];
  try {
    const body = readFileSync(new URL(name, home));
    answer.writeHead(200, {
      'content-type': TYPES[extname(name)],
      'content-security-policy': POLICY,
      'x-content-type-options': 'nosniff',
    });
    answer.end(body);
  } catch {
    refuse(404, 'no such path');
  }
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () =>
  console.log(`http://127.0.0.1:${server.address().port}/`),
);
