// Who calls: what each agent does, waits for, was refused, saved and spent, and how full its limits are.
import { count, duration, money, several, words } from './format.js';
import { find, keep, make, mark, once, say, table } from './dom.js';
import { blank, fill, key } from './limits.js';

const key_of = (agent) => `${agent.team}\u001f${agent.agent}`;

const columns = [
  {
    label: 'Agent',
    head: true,
    value: (agent) => agent.agent,
    fill(cell, agent) {
      const [name, about] = once(cell, () => {
        const parts = [make('span', { class: 'name' }), make('span', { class: 'about' })];
        cell.append(...parts);
        return parts;
      });
      say(name, agent.agent);
      const known = agent.rung ? `known by ${words(agent.rung)}` : '';
      say(
        about,
        [agent.team && `team ${agent.team}`, known, agent.runaway && 'caught in a loop']
          .filter(Boolean)
          .join(' · '),
      );
      mark(cell, 'data-bad', agent.runaway);
    },
  },
  {
    label: 'Now',
    number: true,
    value: (agent) => agent.in_flight + agent.waiting,
    fill(cell, agent) {
      const parts = [
        agent.in_flight && `${agent.in_flight} running`,
        agent.waiting && `${agent.waiting} waiting`,
      ];
      say(cell, parts.filter(Boolean).join(', ') || '–');
    },
  },
  {
    label: 'Limits filling up',
    fill(cell, agent) {
      const [list, none] = once(cell, () => {
        const parts = [make('ul', { class: 'limits', role: 'list' }), make('span', {}, 'none')];
        cell.append(...parts);
        return parts;
      });
      none.hidden = agent.limits.length > 0;
      list.hidden = agent.limits.length === 0;
      keep(list, agent.limits, key, blank, fill);
    },
  },
  {
    label: 'Calls',
    number: true,
    value: (agent) => agent.calls,
    fill: (cell, agent) => say(cell, count(agent.calls)),
  },
  {
    label: 'Waited',
    number: true,
    value: (agent) => agent.waited_ms,
    fill(cell, agent) {
      say(cell, agent.waited_ms ? duration(agent.waited_ms) : '–');
      const last = `Last waits: half under ${duration(agent.wait_p50_ms)}, longest ${duration(agent.wait_max_ms)}`;
      mark(cell, 'title', agent.waited_ms > 0 && last);
    },
  },
  {
    label: 'Refused',
    number: true,
    value: (agent) => agent.refused,
    fill(cell, agent) {
      const why =
        agent.refusals?.length &&
        agent.refusals.map(([reason, many]) => `${words(reason)} ${many}`).join(', ');
      const [many, reasons] = once(cell, () => {
        const parts = [make('span'), make('span', { class: 'about' })];
        cell.append(...parts);
        return parts;
      });
      say(many, agent.refused ? count(agent.refused) : '–');
      say(reasons, why || '');
    },
  },
  {
    label: 'Tokens',
    number: true,
    value: (agent) => agent.input_tokens + agent.output_tokens,
    fill: (cell, agent) =>
      say(cell, `${count(agent.input_tokens)} in, ${count(agent.output_tokens)} out`),
  },
  {
    label: 'Saved',
    number: true,
    value: (agent) => agent.saved_nano,
    fill(cell, agent) {
      say(cell, agent.saved_calls ? money(agent.saved_nano) : '–');
      mark(
        cell,
        'title',
        agent.saved_calls > 0 && `${several(agent.saved_calls, 'call')} answered without upstream`,
      );
    },
  },
  {
    label: 'Spent',
    number: true,
    value: (agent) => agent.spend_nano,
    fill: (cell, agent) => say(cell, money(agent.spend_nano)),
  },
];

export function agents() {
  const rows = table(find('agents-table'), {
    columns,
    key: key_of,
    name: (agent) => agent.agent,
    by: 'Spent',
    empty: 'Nobody has called yet.',
  });
  const others = find('other-limits');
  return (now) => {
    rows.show(now.agents);
    const hidden = now.agents_total - now.agents.length;
    say(
      find('agents-more'),
      hidden > 0 ? `and ${several(hidden, 'more agent')}: \`tidegate agents\` lists them all.` : '',
    );
    keep(others, now.limits, key, blank, fill);
    find('other-limits-box').hidden = now.limits.length === 0;
  };
}
