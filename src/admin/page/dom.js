// The few things the page does to itself. All text goes in as text: names are their callers' own words.
import { plan, sorted } from './model.js';

const SVG = 'http://www.w3.org/2000/svg';

export const find = (id) => document.getElementById(id);

/** An element with attributes and children; a string is text. */
export function make(tag, attributes = {}, ...children) {
  return built(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return built(document.createElementNS(SVG, tag), attributes, children);
}

function built(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false)
      node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children);
  return node;
}

/** Writes only what is new: what stands still costs nothing, and is not read out again. */
export function say(node, text) {
  const words = String(text);
  if (node.textContent !== words) node.textContent = words;
}

export function mark(node, name, value) {
  const text = value === true ? '' : value;
  if (value === false || value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(text)) node.setAttribute(name, text);
}

const kept = new WeakMap();

/**
 * Makes the children of `parent` be `items`, by key, in order, touching as few as can be.
 * `create(item)` gives a node, `fill(node, item)` puts an item into it.
 */
export function keep(parent, items, key, create, fill) {
  const nodes = kept.get(parent) ?? new Map();
  kept.set(parent, nodes);
  const wanted = new Map(items.map((item) => [key(item), item]));
  const focused = document.activeElement;
  const { gone, placed } = plan([...nodes.keys()], [...wanted.keys()]);
  for (const name of gone) nodes.get(name).remove();
  const put = new Set(placed);
  const next = new Map();
  let before = null;
  for (const [name, item] of wanted) {
    const node = nodes.get(name) ?? create(item);
    if (put.has(name)) {
      if (before) before.after(node);
      else parent.prepend(node);
    }
    fill(node, item);
    next.set(name, node);
    before = node;
  }
  kept.set(parent, next);
  if (focused && focused !== document.activeElement && parent.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}

/**
 * A table that keeps itself up to date. Columns: `label`, `fill(cell, item)`, and if wanted `number`,
 * `head` (it names the row), `value(item)` (rows may be sorted by it), `hidden` (its label is for
 * readers alone).
 *
 * On a narrow screen rows become cards (page.css), which takes a table's meaning from readers of the
 * screen: so roles are said twice.
 */
export function table(host, { columns, key, name, by = null, empty }) {
  const state = { by, descending: true, rows: [] };
  host.setAttribute('role', 'table');
  const body = make('tbody', { role: 'rowgroup' });
  const none = make('p', { class: 'none', hidden: true }, empty);
  const heads = columns.map((column) => {
    const head = make('th', {
      scope: 'col',
      role: 'columnheader',
      class: column.number && 'number',
    });
    if (column.value) {
      const button = make('button', { type: 'button', class: 'sort' }, column.label);
      button.addEventListener('click', () => {
        const again = state.by === column.label;
        state.descending = again ? !state.descending : Boolean(column.number);
        state.by = column.label;
        show(state.rows);
      });
      head.append(button);
    } else {
      head.append(column.hidden ? make('span', { class: 'unseen' }, column.label) : column.label);
    }
    return head;
  });
  host.append(make('thead', { role: 'rowgroup' }, make('tr', { role: 'row' }, ...heads)), body);
  host.after(none);

  function create() {
    const cells = columns.map((column) => {
      const role = column.head ? 'rowheader' : 'cell';
      const attributes = { role, class: column.number && 'number', 'data-label': column.label };
      return column.head ? make('th', { ...attributes, scope: 'row' }) : make('td', attributes);
    });
    return make('tr', { role: 'row' }, ...cells);
  }

  function show(rows) {
    state.rows = rows;
    const column = columns.find((one) => one.label === state.by);
    columns.forEach((one, at) => {
      const order = one === column ? (state.descending ? 'descending' : 'ascending') : null;
      mark(heads[at], 'aria-sort', order);
    });
    const inOrder = column ? sorted(rows, column.value, state.descending, name ?? key) : rows;
    keep(body, inOrder, key, create, (row, item) => {
      columns.forEach((one, at) => one.fill(row.cells[at], item));
    });
    host.hidden = rows.length === 0;
    none.hidden = rows.length > 0;
  }

  return { show, body };
}

/** A bar for a share that is used, and one that is held; said in words beside it. */
export function bar() {
  const used = drawn('rect', { class: 'used', height: '100%', width: '0%' });
  const held = drawn('rect', { class: 'held', height: '100%', width: '0%' });
  const node = drawn('svg', { class: 'bar', 'aria-hidden': 'true' }, used, held);
  const percent = (part) => `${(part * 100).toFixed(1)}%`;
  return {
    node,
    set({ used: done, held: kept = 0, full = done }) {
      mark(used, 'width', percent(done));
      mark(held, 'x', percent(done));
      mark(held, 'width', percent(kept));
      mark(node, 'data-full', full >= 1 ? 'over' : full >= 0.9 ? 'near' : false);
    },
  };
}

/** What belongs to a node, made once. */
export function once(node, create) {
  let parts = owned.get(node);
  if (!parts) {
    parts = create(node);
    owned.set(node, parts);
  }
  return parts;
}
const owned = new WeakMap();
