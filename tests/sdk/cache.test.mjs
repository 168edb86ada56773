// The official `openai` package for Node and the cache.
import assert from 'node:assert/strict';
import { appendFileSync, statSync } from 'node:fs';
import test from 'node:test';
import OpenAI from 'openai';

const KEY = process.env.TIDEGATE_CANARY;
const PROXY = process.env.TIDEGATE_TEST_CACHE;
const LOGS = `${process.env.TIDEGATE_TEST_LOGS}/sdk`;
const ask = { model: 'gpt-sim', messages: [{ role: 'user', content: 'Tides? Ünïcödé 潮 🌊' }] };
const tools = [{ type: 'function', function: { name: 'tide_table', parameters: { type: 'object', properties: {} } } }];
const counted = { stream: true, stream_options: { include_usage: true } };
const plain = (value) => JSON.parse(JSON.stringify(value));

async function json(url) {
  return (await fetch(url)).json();
}

// How many calls have reached the backends; each look is one too.
async function calls() {
  appendFileSync(`${LOGS}/cache-looks`, '.');
  const { requests } = await json(`${process.env.TIDEGATE_TEST_CACHE_BACKEND}/simulate/seen`);
  const { chats } = await json(`${process.env.TIDEGATE_TEST_ORIGIN}/seen`);
  return requests - statSync(`${LOGS}/cache-looks`).size + chats;
}

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

function word(headers) {
  const status = headers.get('cache-status') ?? '';
  if (status.includes('; hit')) return 'hit';
  return status.endsWith('; collapsed') ? 'joined' : status.replace('tidegate; fwd=', '');
}

function tokens(data) {
  const used = (Array.isArray(data) ? data : [data])
    .map((event) => event.usage ?? event.response?.usage).filter(Boolean);
  return used.at(-1)?.total_tokens ?? 0;
}

// A client as an agent of its own, and what the access log must say of it.
function agent(t, base = '/v1') {
  const name = `node-${t.name}`.replace(/[^a-z-]/g, '-').slice(0, 60);
  const client = new OpenAI({ baseURL: PROXY + base, apiKey: KEY, maxRetries: 0, defaultHeaders: { 'x-agent-id': name } });
  const entry = { agent: name, words: {}, saved: 0 };
  const note = (how, saved = 0) => {
    entry.words[how] = (entry.words[how] ?? 0) + 1;
    entry.saved += saved;
  };
  t.after(() => appendFileSync(`${LOGS}/expected-cache.jsonl`, `${JSON.stringify(entry)}\n`));
  return { client, note };
}

async function got(call, body) {
  const { data, response } = await call.withResponse();
  return { data: plain(body.stream ? await all(data) : data), how: word(response.headers), response };
}

// The same call twice: one reaches the backend, and the SDK sees no difference.
async function twice({ note }, create, body, script = '') {
  const before = await calls();
  const options = { headers: { 'x-simulate': script } };
  const [first, second] = [await got(create(body, options), body), await got(create(body, options), body)];
  assert.equal(await calls() - before, 1);
  assert.deepEqual([first.how, second.how], ['miss', 'hit']);
  assert.equal(second.response.headers.get('x-tidegate-source'), 'cache');
  assert.deepEqual(second.data, first.data);
  note('miss');
  note('hit', tokens(second.data));
  return first.data;
}

test('chat, plain and streamed', async (t) => {
  const a = agent(t);
  const create = (...call) => a.client.chat.completions.create(...call);
  for (const [index, more] of [{}, { stream: true }, counted, { tools }, { tools, ...counted }].entries()) {
    const body = { ...ask, seed: index, ...more };
    assert.ok((await twice(a, create, body, more.tools ? 'tool=1; reasoning=3' : 'tokens=20; reasoning=3')));
  }
});

test('parallel tools, streamed', async (t) => {
  const a = agent(t, '/origin/v1');
  const data = await twice(a, (...call) => a.client.chat.completions.create(...call), { ...ask, tools, ...counted });
  assert.match(JSON.stringify(data), /call_2/);
});

test('responses, plain and streamed', async (t) => {
  const a = agent(t);
  for (const stream of [false, true]) {
    const body = { model: 'gpt-sim', input: `hello ${stream}`, stream };
    await twice(a, (...call) => a.client.responses.create(...call), body, 'reasoning=3');
  }
});

test('embeddings, in both encodings', async (t) => {
  const a = agent(t);
  for (const more of [{}, { encoding_format: 'float' }]) {
    const body = { model: 'embed-sim', input: ['ebb', 'flow'], dimensions: 16, ...more };
    const data = await twice(a, (...call) => a.client.embeddings.create(...call), body);
    assert.equal(typeof data.data[1].embedding[0], 'number');
  }
});

test('what a stream amounts to is the plain answer', async (t) => {
  const a = agent(t);
  // its helper does not add up fields of others, as `reasoning_content` is one
  for (const [index, script] of ['tokens=20', 'tool=1'].entries()) {
    const body = { ...ask, seed: index, tools };
    const options = { headers: { 'x-simulate': script } };
    const before = await calls();
    const runner = a.client.chat.completions.stream({ ...body, ...counted }, options);
    const final = plain(await runner.finalChatCompletion());
    a.note('miss');
    const second = await got(a.client.chat.completions.create(body, options), body);
    a.note(second.how, tokens(second.data));
    assert.equal(await calls() - before, 1);
    assert.deepEqual(clean(second.data), clean(final));
  }
});

// Without what the helper adds, or leaves out.
function clean(data) {
  for (const { message } of data.choices) {
    delete message.parsed;
    for (const call of message.tool_calls ?? []) delete call.function.parsed_arguments;
  }
  return data;
}

test('fifty at once, of whom ten leave', async (t) => {
  const a = agent(t);
  const before = await calls();
  const options = { headers: { 'x-simulate': 'tokens=40; gap=8ms; ttft=300ms' } };
  const one = async (_, index) => {
    const { data, response } = await a.client.chat.completions.create({ ...ask, ...counted }, options).withResponse();
    const how = word(response.headers);
    if (index % 5 === 0) {
      for await (const _chunk of data) break;
      return { how };
    }
    return { how, data: plain(await all(data)) };
  };
  const everybody = await Promise.all(Array.from({ length: 50 }, one));
  assert.equal(await calls() - before, 1);
  const read = everybody.filter(({ data }) => data);
  assert.equal(read.length, 40);
  for (const { data } of read) assert.deepEqual(data, read[0].data);
  assert.equal(read[0].data.at(-1).usage.completion_tokens, 40);
  assert.equal(everybody.filter(({ how }) => how === 'miss').length, 1);
  for (const { how, data } of everybody) a.note(how, data && how !== 'miss' ? tokens(data) : 0);
});

test('a fresh answer is asked for', async (t) => {
  const a = agent(t);
  const say = (headers) => got(a.client.chat.completions.create(ask, { headers }), ask);
  const first = await say({ 'x-simulate': 'seed=1' });
  const kept = await say({ 'x-simulate': 'seed=2' });
  const fresh = await say({ 'x-simulate': 'seed=2', 'Cache-Control': 'no-cache' });
  assert.deepEqual([first.how, kept.how, fresh.how], ['miss', 'hit', 'miss']);
  assert.deepEqual(kept.data, first.data);
  assert.notDeepEqual(fresh.data, first.data);
  a.note('miss');
  a.note('hit', tokens(kept.data));
  a.note('miss');
});
