// OpenAI's background mode by the official `openai` package for Node, on a backend that has none.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';

const tasks = new OpenAI({ baseURL: `${process.env.TIDEGATE_TEST_TASKS}/v1`, apiKey: process.env.TIDEGATE_CANARY, maxRetries: 0 });
const simulate = (script) => ({ headers: { 'x-simulate': script } });
const pause = () => new Promise((done) => setTimeout(done, 50));

test('created and polled', async () => {
  const ask = { model: 'gpt-sim', input: 'polled by node', background: true };
  let response = await tasks.responses.create(ask, simulate('ttft=200ms; tokens=9'));
  const { id } = response;
  assert.ok(['queued', 'in_progress'].includes(response.status), response.status);
  while (['queued', 'in_progress'].includes(response.status)) {
    await pause();
    response = await tasks.responses.retrieve(id);
  }
  assert.deepEqual([response.id, response.status], [id, 'completed']);
  assert.equal(response.output_text.split(' ').length, 9);
});

test('a stream is dropped and taken up again', async () => {
  const ask = { model: 'gpt-sim', input: 'streamed to node', background: true, stream: true };
  const events = [];
  for await (const event of await tasks.responses.create(ask, simulate('tokens=30; gap=15ms'))) {
    events.push(event);
    if (events.length === 8) break;
  }
  const { id } = events[0].response;
  const last = events.at(-1).sequence_number;
  for await (const event of await tasks.responses.retrieve(id, { stream: true, starting_after: last })) {
    events.push(event);
  }
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, at) => at));
  assert.equal(events.at(-1).type, 'response.completed');
});

test('cancelled', async () => {
  const ask = { model: 'gpt-sim', input: 'cancelled by node', background: true };
  let response = await tasks.responses.create(ask, simulate('tokens=2000; gap=20ms'));
  response = await tasks.responses.cancel(response.id);
  for (let times = 0; response.status !== 'cancelled' && times < 100; times += 1) {
    await pause();
    response = await tasks.responses.retrieve(response.id);
  }
  assert.equal(response.status, 'cancelled');
});
