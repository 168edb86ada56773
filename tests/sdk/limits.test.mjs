// Limits as the official `openai` package for Node lives through them.
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import test from 'node:test';
import OpenAI from 'openai';

const LIMITS = process.env.TIDEGATE_TEST_LIMITS;
const ORIGIN = process.env.TIDEGATE_TEST_ORIGIN;
const KEYS = JSON.parse(process.env.TIDEGATE_TEST_KEYS);
const EXPECTED = `${process.env.TIDEGATE_TEST_LOGS}/sdk/expected-calls.jsonl`;
const ask = { model: 'gpt-sim', messages: [{ role: 'user', content: 'Say something about tides.' }] };
const simulate = (script) => ({ headers: { 'x-simulate': script } });

// A client that notes each attempt, with the agent's whole part of the access log.
function agent(kind, calls, { key, known = true, ...options } = {}) {
  const name = `${kind}-node`;
  const entry = { agent: known ? name : null, calls: calls.map((call) => [call].flat().concat(null).slice(0, 2)) };
  appendFileSync(EXPECTED, `${JSON.stringify(entry)}\n`);
  const attempts = [];
  const noting = async (url, init) => {
    const begun = performance.now();
    const answer = await fetch(url, init);
    attempts.push({ begun, ended: performance.now(), status: answer.status, headers: answer.headers });
    return answer;
  };
  const client = new OpenAI({ baseURL: `${LIMITS}/v1`, apiKey: key ?? KEYS[name], fetch: noting, ...options });
  const statuses = () => attempts.map((attempt) => attempt.status);
  return { name, client, attempts, statuses, chat: (more, how) => client.chat.completions.create({ ...ask, ...more }, how) };
}

async function refused(call, status, kind) {
  let error;
  await assert.rejects(call, (caught) => { error = caught; return true; });
  assert.equal(error.constructor, kind);
  assert.equal(error.status, status);
  assert.match(error.requestID, /^req_/);
  return error;
}

test('a limit that heals soon is waited for, as long as was told', async () => {
  const a = agent('quick', [200, [429, 'rate_limit_exceeded'], 200]);
  await a.chat();
  assert.ok((await a.chat()).choices[0].message.content);
  assert.deepEqual(a.statuses(), [200, 429, 200]);
  const [, refusal, again] = a.attempts;
  const told = Number(refusal.headers.get('retry-after-ms'));
  assert.ok(told > 0 && told <= 667, `${told} ms`);
  // a timer of Node may come a millisecond early
  const waited = again.begun - refusal.ended;
  assert.ok(waited >= told - 1 && waited < 1000, `told ${told} ms, waited ${waited} ms`);
});

test('a limit that heals late is not waited for', async () => {
  const a = agent('slow', [200, [429, 'rate_limit_exceeded']]);
  await a.chat();
  const error = await refused(() => a.chat(), 429, OpenAI.RateLimitError);
  assert.deepEqual(a.statuses(), [200, 429]);
  assert.equal(error.code, 'rate_limit_exceeded');
  assert.match(error.message, /The limit `slow\/requests` of agent "slow-node" is reached/);
});

test('a spent budget is final', async () => {
  const a = agent('budget', [200, [402, 'insufficient_quota']]);
  await a.chat({ max_tokens: 900 }, simulate('tokens=900'));
  const error = await refused(() => a.chat(), 402, OpenAI.APIError);
  assert.deepEqual(a.statuses(), [200, 402]);
  assert.equal(error.code, 'insufficient_quota');
  assert.match(error.message, /The budget `budget\/spend` of agent "budget-node" is spent; it begins anew in/);
});

test('what no waiting heals is not tried again', async () => {
  const large = { messages: [{ role: 'user', content: 'tides '.repeat(1000) }] };
  const cases = [
    [agent('small', [[400, 'request_exceeds_limit']]), large, 400, OpenAI.BadRequestError, 'request_exceeds_limit'],
    [agent('narrow', [[403, 'not_allowed']]), {}, 403, OpenAI.PermissionDeniedError, 'not_allowed'],
    [agent('wrong', [[401, 'invalid_api_key']], { key: `tgk_${'A'.repeat(43)}`, known: false }), {}, 401,
      OpenAI.AuthenticationError, 'invalid_api_key'],
  ];
  for (const [a, more, status, kind, code] of cases) {
    const error = await refused(() => a.chat(more), status, kind);
    assert.equal(error.code, code);
    assert.deepEqual(a.statuses(), [status]);
  }
});

test('the end of the wait in line is retried', async () => {
  const a = agent('line', [200, [408, 'queue_timeout'], 200]);
  const holding = a.client.withOptions({ fetch }).chat.completions.create(ask, simulate('ttft=1200ms'));
  await new Promise((wake) => setTimeout(wake, 200));
  assert.ok((await a.chat()).choices[0].message.content);
  await holding;
  assert.deepEqual(a.statuses(), [408, 200]);
  const [timeout, again] = a.attempts;
  assert.ok(again.begun - timeout.ended >= Number(timeout.headers.get('retry-after-ms')) - 1);
});

test('a clamp is seen as length', async () => {
  const a = agent('bound', [200]);
  const { choices, usage } = await a.chat({}, simulate('tokens=500'));
  assert.deepEqual([choices[0].finish_reason, usage.completion_tokens], ['length', 100]);
});

test('what is left is told', async () => {
  const a = agent('counted-headers', [200]);
  const { data, response } = await a.chat({}, simulate('tokens=5')).withResponse();
  assert.equal(data.usage.completion_tokens, 5);
  assert.equal(response.headers.get('x-ratelimit-limit-requests'), '600');
  assert.equal(response.headers.get('x-ratelimit-remaining-requests'), '599');
  assert.match(response.headers.get('x-ratelimit-reset-tokens'), /^((\d+m)?[\d.]+s|\d+ms)$/);
});

test('usage that only the sidecar asked for is not seen', async () => {
  const a = agent('counted-stream', [200, 200]);
  for (const more of [{}, { stream_options: { include_usage: true } }]) {
    const got = [];
    for (const client of [new OpenAI({ baseURL: `${ORIGIN}/v1`, apiKey: 'any' }), a.client.withOptions({ baseURL: `${LIMITS}/origin/v1` })]) {
      const { data, response } = await client.chat.completions.create({ ...ask, ...more, stream: true }).withResponse();
      const chunks = [];
      // a field that says "no usage yet" is all that may differ
      for await (const { usage, ...chunk } of data) chunks.push(usage ? { ...chunk, usage } : chunk);
      got.push({ chunks, saw: response.headers.get('x-saw-stream-options') });
    }
    assert.deepEqual(got[1].chunks, got[0].chunks);
    assert.equal(got[1].saw, '{"include_usage": true}');
    assert.equal(got[1].chunks.length, more.stream_options ? 12 : 11);
  }
});
