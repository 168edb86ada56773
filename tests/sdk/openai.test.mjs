// The official `openai` package for Node through the sidecar, compared with direct calls.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';

const KEY = process.env.TIDEGATE_CANARY;
const direct = new OpenAI({ baseURL: `${process.env.TIDEGATE_TEST_DIRECT}/v1`, apiKey: KEY });
const proxied = new OpenAI({ baseURL: `${process.env.TIDEGATE_TEST_PROXY}/v1`, apiKey: KEY });
const ask = { model: 'gpt-sim', messages: [{ role: 'user', content: 'Tides? Ünïcödé 潮 🌊' }] };
const simulate = (script) => ({ headers: { 'x-simulate': script } });
const plain = (value) => JSON.parse(JSON.stringify(value));

async function same(call) {
  const [a, b] = [plain(await call(direct)), plain(await call(proxied))];
  assert.deepEqual(b, a);
  return b;
}

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

const seen = async () => (await fetch(`${process.env.TIDEGATE_TEST_DIRECT}/simulate/seen`)).json();

test('chat', async () => {
  const got = await same((c) => c.chat.completions.create(ask));
  assert.ok(got.choices[0].message.content);
});

test('chat stream', async () => {
  const got = await same((c) =>
    all(c.chat.completions.create(
      { ...ask, stream: true, stream_options: { include_usage: true } }, simulate('tokens=40'))));
  assert.equal(got.at(-1).usage.completion_tokens, 40);
});

test('tools, streamed', async () => {
  const tools = [{ type: 'function', function: { name: 'tide_table', parameters: { type: 'object', properties: {} } } }];
  const got = await same((c) => all(c.chat.completions.create({ ...ask, tools, stream: true }, simulate('tool=1'))));
  assert.ok(got.some((chunk) => chunk.choices[0]?.delta.tool_calls));
});

test('embeddings, as the SDK asks for them and as numbers', async () => {
  for (const more of [{}, { encoding_format: 'float' }]) {
    const got = await same((c) => c.embeddings.create({ model: 'embed-sim', input: ['ebb', 'flow'], ...more }));
    assert.equal(typeof got.data[1].embedding[0], 'number');
  }
});

test('responses, plain and streamed', async () => {
  const body = { model: 'gpt-sim', input: 'hello' };
  assert.equal((await same((c) => c.responses.create(body))).status, 'completed');
  const events = await same((c) => all(c.responses.create({ ...body, stream: true })));
  assert.equal(events.at(-1).type, 'response.completed');
});

test('models', async () => {
  assert.ok((await same((c) => all(c.models.list()))).length > 0);
});

test('errors are of the same class, with the same body', async () => {
  for (const status of [400, 401, 404, 413, 429, 500]) {
    const errors = [];
    for (const c of [direct, proxied]) {
      await assert.rejects(
        c.chat.completions.create(ask, { ...simulate(`fault=${status}; retry=none`), maxRetries: 0 }),
        (error) => {
          errors.push({ name: error.constructor.name, status: error.status, body: plain(error.error) });
          return true;
        });
    }
    assert.deepEqual(errors[1], errors[0]);
    assert.equal(errors[1].status, status);
  }
});

test('the SDK retries, the sidecar does not', async () => {
  const before = await seen();
  await assert.rejects(
    proxied.chat.completions.create(ask, { ...simulate('fault=500; retry=none'), maxRetries: 1 }),
    OpenAI.InternalServerError);
  // the question itself may count as one
  const attempts = (await seen()).requests - before.requests;
  assert.ok(attempts === 2 || attempts === 3, `${attempts} attempts`);
});

test('retry-after is obeyed', async () => {
  const begun = performance.now();
  await proxied.chat.completions.create(ask, simulate(`fault=429; times=1; retry-after=1; id=node-${begun}`));
  assert.ok(performance.now() - begun >= 1000);
});

test('a stream that dies throws', async () => {
  for (const fault of ['reset-mid=5', 'close-mid=5']) {
    for (const c of [direct, proxied]) {
      const got = [];
      await assert.rejects(async () => {
        const stream = await c.chat.completions.create(
          { ...ask, stream: true }, simulate(`fault=${fault}; tokens=50; gap=5ms`));
        for await (const chunk of stream) got.push(chunk);
      });
      assert.ok(got.length >= 5 && got.length < 40, `${got.length} chunks`);
    }
  }
});

test('the caller\'s timeout', async () => {
  await assert.rejects(
    proxied.chat.completions.create(ask, { ...simulate('ttft=30s'), timeout: 400, maxRetries: 0 }),
    OpenAI.APIConnectionTimeoutError);
});

test('leaving a stream cancels it', async () => {
  const { cancelled } = await seen();
  const stream = await proxied.chat.completions.create(
    { ...ask, stream: true }, simulate('tokens=10000; gap=10ms'));
  for await (const chunk of stream) { assert.ok(chunk); break; }
  const end = performance.now() + 1000;
  while ((await seen()).cancelled === cancelled) {
    assert.ok(performance.now() < end, 'the backend was not told');
    await new Promise((wake) => setTimeout(wake, 10));
  }
});

test('fifty streams at once', async () => {
  const call = (c) => all(c.chat.completions.create(
    { ...ask, stream: true }, simulate('tokens=50; gap=3ms; ttft=30ms')));
  const expected = plain(await call(direct));
  for (const got of await Promise.all(Array.from({ length: 50 }, () => call(proxied)))) {
    assert.deepEqual(plain(got), expected);
  }
});
