// Calls in flight, the oldest first.
import { bytes, count, duration, several, words } from './format.js';
import { find, make, mark, once, say, table } from './dom.js';
import { allowed, ender } from './actions.js';

const STAGES = {
  reading: 'its request arrives',
  queued: 'waits for a place',
  connecting: 'connects',
  first_byte: 'waits for the answer to begin',
  answering: 'answer arrives',
};

function stage(call) {
  const said = STAGES[call.stage] ?? words(call.stage);
  const { position } = call;
  if (position === null || position === undefined) return said;
  return position ? `${said}, ${position} before it` : `${said}, next of its agent`;
}

const columns = [
  { label: 'Age', number: true, fill: (cell, call) => say(cell, duration(call.age_ms)) },
  { label: 'Agent', head: true, fill: (cell, call) => say(cell, call.agent ?? 'nobody known') },
  { label: 'Model', fill: (cell, call) => say(cell, call.model ?? '–') },
  { label: 'What', fill: (cell, call) => say(cell, words(call.operation)) },
  {
    label: 'Stage',
    fill(cell, call) {
      const node = once(cell, () => {
        const text = make('span', { class: 'state' });
        cell.append(text);
        return text;
      });
      say(node, call.over ? 'is over' : stage(call));
      mark(node, 'data-level', call.stage === 'queued' ? 'warn' : 'plain');
    },
  },
  {
    label: 'Tokens so far',
    number: true,
    fill: (cell, call) =>
      say(cell, call.tokens === null || call.tokens === undefined ? '–' : count(call.tokens)),
  },
  { label: 'Bytes', number: true, fill: (cell, call) => say(cell, bytes(call.bytes)) },
  { label: 'Upstream', fill: (cell, call) => say(cell, call.upstream ?? '–') },
  {
    label: 'Cancel',
    hidden: true,
    fill(cell, call) {
      const parts = once(cell, () => {
        const own = { call };
        own.end = ender(() => ({
          path: `calls/${encodeURIComponent(own.call.request_id)}/cancel`,
          name: `call of ${own.call.agent ?? 'nobody known'}, ${own.call.model ?? words(own.call.operation)}`,
        }));
        cell.append(own.end.button);
        return own;
      });
      parts.call = call;
      parts.end.label();
      parts.end.button.hidden = !allowed();
      mark(parts.end.button, 'aria-disabled', call.over ? 'true' : false);
    },
  },
];

export function calls() {
  const host = find('calls-table');
  const rows = table(host, {
    columns,
    key: (call) => call.request_id,
    empty: 'No call is running.',
  });
  let shown = [];
  return (now) => {
    const here = new Map(now.calls.map((call) => [call.request_id, call]));
    // while somebody points or stands here, what ends stays: no button slips under the finger
    const busy = host.matches(':hover') || host.contains(document.activeElement);
    const ended = busy ? shown.filter((call) => !here.has(call.request_id)) : [];
    // by when it was first seen to begin: ages that are told a millisecond late would swap rows
    const begun = new Map(shown.map((call) => [call.request_id, call.begun]));
    const running = now.calls.map((call) => ({
      ...call,
      begun: begun.get(call.request_id) ?? now.at_ms - call.age_ms,
    }));
    shown = [...ended.map((call) => ({ ...call, over: true })), ...running].sort(
      (a, b) => a.begun - b.begun,
    );
    rows.show(shown);
    mark(host, 'data-actions', allowed());
    const rest = now.calls_total - now.calls.length;
    say(find('calls-more'), rest > 0 ? `and ${several(rest, 'younger call')}.` : '');
  };
}
