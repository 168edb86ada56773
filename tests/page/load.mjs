// A small load of agents for the page to show: calls of several kinds, one after the other and at once.
const CHAT = '/v1/chat/completions';

/** One call; the body is read to its end. Gives the status. */
export async function call(base, { agent, team, text, stream = false, simulate = '', path = CHAT }) {
  const body = JSON.stringify({
    model: path === CHAT ? 'gpt-4o-mini' : 'claude-sonnet-4-5',
    max_tokens: 400,
    stream,
    messages: [{ role: 'user', content: text }],
  });
  const headers = { 'content-type': 'application/json', 'x-agent-id': agent };
  if (team) headers['x-agent-team'] = team;
  if (simulate) headers['x-simulate'] = simulate;
  const answer = await fetch(`${base}${path}`, { method: 'POST', headers, body });
  await answer.text().catch(() => '');
  return answer.status;
}

const QUESTIONS = [
  'How do I reset my password?',
  'how do i reset my password',
  'What is the capital of France?',
  'Summarise the incident report of last night.',
  'What is the capital of Spain?',
  'How can I reset my password, please?',
];

const WORDINGS = ['How do I reset my THING?', 'please, how do i reset my THING', 'How can I reset my THING?'];
const THINGS = ['password', 'router', 'phone', 'printer', 'thermostat', 'alarm', 'modem', 'laptop'];

/** Calls until it is stopped: `const stop = load(base); …; await stop();` gives how many were made. */
export function load(base) {
  let on = true;
  let made = 0;
  const loop = async (pause, one) => {
    for (let turn = 0; on; turn += 1) {
      await call(base, one(turn)).catch(() => 0);
      made += 1;
      await new Promise((done) => setTimeout(done, pause));
    }
  };
  const ask = (turn) => QUESTIONS[turn % QUESTIONS.length];
  /** The same from three at once, then in another form, then in other words: one call to the backend. */
  const asked = async () => {
    for (let turn = 0; on; turn += 1) {
      const one = (text) => call(base, { agent: 'helpdesk', text, simulate: 'ttft=200ms; tokens=40' }).catch(() => 0);
      const [same, form, alike] = WORDINGS.map((text) => text.replace('THING', THINGS[turn % THINGS.length]));
      await Promise.all([one(same), one(same), one(same)]);
      await one(form);
      await one(alike);
      made += 5;
      await new Promise((done) => setTimeout(done, 500));
    }
  };
  /** More at once than the backend takes: some wait for a place. */
  const batches = async () => {
    for (let turn = 0; on; turn += 1) {
      const batch = Array.from({ length: 10 }, (_, nth) => ({ agent: 'batcher', text: `Batch ${turn}.${nth}`, simulate: 'ttft=250ms; tokens=20' }));
      await Promise.all(batch.map((one) => call(base, one).catch(() => 0)));
      made += batch.length;
      await new Promise((done) => setTimeout(done, 1_500));
    }
  };
  const all = [
    asked(),
    batches(),
    loop(90, (turn) => ({ agent: 'researcher', text: `Source ${turn}: ${ask(turn)}`, stream: true, simulate: 'ttft=40ms; gap=4ms; tokens=60' })),
    loop(70, (turn) => ({ agent: 'writer', text: ask(turn), stream: turn % 2 === 0, simulate: 'ttft=120ms; gap=6ms; tokens=120' })),
    loop(120, (turn) => ({ agent: 'reviewer', text: `Review ${turn}`, path: '/v1/messages', stream: true, simulate: 'ttft=200ms; gap=8ms; tokens=80' })),
    loop(40, (turn) => ({ agent: 'crawler', text: `Page ${turn}`, simulate: 'ttft=30ms; tokens=30' })),
    loop(900, (turn) => ({ agent: 'planner', text: `Plan ${turn}`, stream: true, simulate: 'ttft=300ms; gap=25ms; tokens=200' })),
    // more than it may: the others are refused
    loop(400, (turn) => ({ agent: 'scraper', text: `List ${turn}`, simulate: 'tokens=10' })),
    loop(2500, (turn) => ({ agent: 'crawler', text: `Broken ${turn}`, simulate: 'fault=400' })),
  ];
  return async () => {
    on = false;
    await Promise.all(all);
    return made;
  };
}
