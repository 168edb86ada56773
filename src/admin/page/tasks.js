// Calls that are answered later, and streams that can be taken up again.
import { bytes, count, duration, money, several, words } from './format.js';
import { find, make, mark, once, say, table } from './dom.js';
import { allowed, ender } from './actions.js';

const OVER = ['succeeded', 'failed', 'cancelled', 'expired', 'interrupted'];
const LEVELS = {
  succeeded: 'good',
  failed: 'bad',
  interrupted: 'bad',
  expired: 'warn',
  retry_wait: 'warn',
};

const columns = [
  { label: 'Age', number: true, fill: (cell, task) => say(cell, duration(task.elapsed_ms)) },
  {
    label: 'Task',
    head: true,
    fill(cell, task) {
      say(cell, task.id.slice(0, 13));
      mark(cell, 'title', task.id);
    },
  },
  {
    label: 'State',
    fill(cell, task) {
      const node = once(cell, () => {
        const text = make('span', { class: 'state' });
        cell.append(text);
        return text;
      });
      const place =
        task.position === null
          ? ''
          : task.position
            ? `, ${task.position} before it`
            : ', next of its agent';
      say(node, words(task.state) + place + (task.error ? `: ${task.error.message}` : ''));
      mark(node, 'data-level', LEVELS[task.state] ?? 'plain');
    },
  },
  { label: 'Agent', fill: (cell, task) => say(cell, task.agent) },
  { label: 'Model', fill: (cell, task) => say(cell, task.model || '–') },
  { label: 'Attempts', number: true, fill: (cell, task) => say(cell, task.attempts) },
  {
    label: 'Tokens so far',
    number: true,
    fill: (cell, task) => say(cell, count(task.output_tokens)),
  },
  {
    label: 'Cost',
    number: true,
    fill: (cell, task) =>
      say(cell, task.cost_microdollars === null ? '–' : money(task.cost_microdollars * 1_000)),
  },
  {
    label: 'Cancel',
    hidden: true,
    fill(cell, task) {
      const parts = once(cell, () => {
        const own = { task };
        own.end = ender(() => ({
          path: `tasks/${encodeURIComponent(own.task.id)}/cancel`,
          name: `task ${own.task.id.slice(0, 13)} of ${own.task.agent}`,
        }));
        cell.append(own.end.button);
        return own;
      });
      parts.task = task;
      parts.end.label();
      parts.end.button.hidden = !allowed() || OVER.includes(task.state);
    },
  },
];

function summary({ tasks, webhooks, streams }) {
  const states = Object.entries(tasks.states).filter(([, many]) => many > 0);
  const now =
    states.map(([state, many]) => `${count(many)} ${words(state)}`).join(', ') || 'none now';
  const oldest =
    tasks.oldest_queued_ms === null
      ? ''
      : `; the oldest has waited ${duration(tasks.oldest_queued_ms)}`;
  const said = [`${several(tasks.submitted, 'task')} so far; ${now}${oldest}.`];
  said.push(`They keep ${bytes(tasks.request_bytes + tasks.result_bytes)}.`);
  if (webhooks && webhooks.sent + webhooks.waiting + webhooks.given_up > 0) {
    said.push(
      `Webhooks: ${count(webhooks.sent)} sent, ${count(webhooks.waiting)} to go, ${count(webhooks.given_up)} given up.`,
    );
  }
  if (streams.kept + streams.resumed > 0) {
    said.push(
      `Streams: ${count(streams.kept)} can be taken up again, ${count(streams.resumed)} were.`,
    );
  }
  return said.join(' ');
}

export function tasks() {
  const host = find('tasks-table');
  const rows = table(host, { columns, key: (task) => task.id, empty: 'No task to show.' });
  const listed = find('tasks-listed');
  return (now) => {
    const there = now.tasks !== null;
    say(
      find('tasks-said'),
      there
        ? summary(now)
        : 'There are no tasks here. With `state` in the policy, any call can be answered later.',
    );
    listed.hidden = !there || now.task_rows === null;
    mark(host, 'data-actions', allowed());
    if (now.task_rows !== null) rows.show(now.task_rows);
  };
}
