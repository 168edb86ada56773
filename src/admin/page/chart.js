// Charts of the window, in SVG by hand: a few lines or a stack, one cursor for all of them.
//
// Colours and line styles are page.css's, so that light, dark and forced colours need nothing here.
// Below each chart stands a table with its series: legend, latest figures, and the text of the chart
// for who does not see it. Arrow keys move the cursor as a pointer does.
//
// Alternative rejected: uPlot 1.6.32, five times as much code for what it does here. It draws on a canvas,
// which knows nothing of the page's colours, and shows nothing to a reader of the screen; it zooms,
// and a quarter of an hour needs no zoom.
import { WINDOW_MS, ceiling, span } from './model.js';
import { clock } from './format.js';
import { drawn, make, mark, say } from './dom.js';

const HEIGHT = 150;
const LEFT = 56;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
/** Without points for so many times their distance, a line ends and another begins. */
const GAP = 3;

const all = new Set();
/** The moment the cursor stands at, in Unix milliseconds; `null` for now. */
let cursor = null;

function moveCursor(at) {
  cursor = at;
  for (const one of all) one.point();
}

/**
 * A chart in `host`, a `figure` with its caption. `series`: `{ label, style, values(history), of }`,
 * where `of(history)` is the figure of the whole window as text; `format(value)`: one value as text;
 * `stacked`: one above the other, zeros at the bottom.
 */
export function chart(host, { title, series, format, stacked = false }) {
  const grid = drawn('g', { class: 'grid' });
  const kind = stacked ? 'fill' : 'line';
  const shapes = series.map((one) => drawn('path', { class: `${kind} ${one.style}` }));
  const hair = drawn('line', { class: 'hair', y1: TOP, y2: HEIGHT - BOTTOM, visibility: 'hidden' });
  const box = { class: 'plot', height: HEIGHT, 'aria-hidden': 'true' };
  const svg = drawn('svg', box, grid, drawn('g', {}, ...shapes), hair);
  // a slider in time is what it is to who hears it: arrows move it, and its text is read out
  const frame = make(
    'div',
    {
      class: 'frame',
      tabindex: '0',
      role: 'slider',
      'aria-label': `${title}: moment to read`,
      'aria-valuemin': -WINDOW_MS / 1_000,
      'aria-valuemax': 0,
      'aria-valuenow': 0,
      'aria-valuetext': 'now',
    },
    svg,
  );
  const { node, moment, rows } = legend(title, series, stacked);
  host.append(frame, node);

  const state = { ends: [], every: 0, values: [], width: 0 };
  const room = () => state.width - LEFT - RIGHT;
  const x = (end) => LEFT + (1 - ((state.ends.at(-1) ?? 0) - end) / span(state.ends)) * room();

  function draw() {
    if (room() < 20) return;
    const tops = stacked ? piled(state.values) : state.values;
    const most = ceiling(Math.max(0, ...tops.flat().filter((value) => value !== null)));
    const y = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
    const runs = broken(state.ends, state.every * GAP);
    shapes.forEach((shape, at) => {
      const path = stacked
        ? between(runs, state.ends, tops[at - 1], tops[at], x, y)
        : line(runs, state.ends, tops[at], x, y);
      mark(shape, 'd', path);
    });
    lay(grid, most, y, format, state.width, span(state.ends) / 60_000);
    point();
  }

  /** Shows the figures at the cursor, or the latest. */
  function point() {
    const at = cursor === null ? state.ends.length - 1 : nearest(state.ends, cursor);
    const past = cursor !== null && at >= 0;
    say(moment, past ? clock(state.ends[at]) : 'now');
    rows.forEach((row, nth) => {
      const value = state.values[nth]?.[at];
      say(row.at, value === undefined ? '–' : format(value));
    });
    mark(hair, 'visibility', past ? 'visible' : 'hidden');
    if (past) {
      const stands = x(state.ends[at]).toFixed(1);
      mark(hair, 'x1', stands);
      mark(hair, 'x2', stands);
    }
  }

  /** Only when somebody moves it: nobody is told each new point. */
  function tell() {
    const read = series.map((one, nth) => `${one.label} ${rows[nth].at.textContent}`);
    const latest = state.ends.at(-1) ?? 0;
    mark(frame, 'aria-valuenow', cursor === null ? 0 : Math.round((cursor - latest) / 1_000));
    mark(frame, 'aria-valuetext', `${moment.textContent}: ${read.join(', ')}`);
  }

  steer(frame, state, tell);
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === state.width) return;
    state.width = width;
    mark(svg, 'width', width);
    draw();
  }).observe(frame);
  all.add({ point });

  return (history) => {
    state.ends = history.columns.end_ms;
    state.every = history.every;
    state.values = series.map((one) => one.values(history));
    rows.forEach((row, nth) => say(row.window, series[nth].of(history)));
    draw();
  };
}

/** Names of the series, with their figures at the cursor and in the whole window. */
function legend(title, series, stacked) {
  const moment = make('th', { scope: 'col', class: 'number' }, 'now');
  const rows = series.map(({ label, style }) => {
    const sign = stacked
      ? drawn('rect', { class: `fill ${style}`, width: 18, height: 10 })
      : drawn('line', { class: `line ${style}`, x1: 0, x2: 18, y1: 5, y2: 5 });
    const swatch = drawn(
      'svg',
      { class: 'swatch', 'aria-hidden': 'true', width: 18, height: 10 },
      sign,
    );
    const at = make('td', { class: 'number' });
    const window = make('td', { class: 'number' });
    return {
      at,
      window,
      row: make('tr', {}, make('th', { scope: 'row' }, swatch, label), at, window),
    };
  });
  const heads = [
    make('th', { scope: 'col' }, make('span', { class: 'unseen' }, 'Series')),
    moment,
    make('th', { scope: 'col', class: 'number' }, 'in 15 min'),
  ];
  const node = make(
    'table',
    { class: 'legend' },
    make('caption', { class: 'unseen' }, `${title}, in figures`),
    make('thead', {}, make('tr', {}, ...heads)),
    make('tbody', {}, ...rows.map((one) => one.row)),
  );
  return { node, moment, rows };
}

/** Moves the cursor by pointer and by keys. */
function steer(frame, state, tell) {
  frame.addEventListener('pointermove', (event) => {
    const from = frame.getBoundingClientRect().left;
    const part = (event.clientX - from - LEFT) / (state.width - LEFT - RIGHT);
    const ago = (1 - Math.min(Math.max(part, 0), 1)) * span(state.ends);
    moveCursor((state.ends.at(-1) ?? 0) - ago);
  });
  frame.addEventListener('pointerleave', () => moveCursor(null));
  frame.addEventListener('blur', () => moveCursor(null));
  frame.addEventListener('focus', tell);
  frame.addEventListener('keydown', (event) => {
    const { ends } = state;
    if (!ends.length) return;
    const last = ends.length - 1;
    const here = cursor === null ? last : nearest(ends, cursor);
    const step = event.shiftKey ? 15 : 1;
    const moves = { ArrowLeft: here - step, ArrowRight: here + step, Home: 0, End: last };
    const to = moves[event.key];
    if (to === undefined && event.key !== 'Escape') return;
    event.preventDefault();
    moveCursor(to === undefined ? null : ends[Math.min(Math.max(to, 0), last)]);
    tell();
  });
}

/** Each series on top of those before it. */
function piled(values) {
  const below = [];
  return values.map((column) =>
    column.map((value, at) => (below[at] = (below[at] ?? 0) + (value ?? 0))),
  );
}

/** Where a line runs without a gap: [from, to), by index. */
function broken(ends, gap) {
  const runs = [];
  let from = 0;
  for (let at = 1; at <= ends.length; at += 1) {
    if (at === ends.length || ends[at] - ends[at - 1] > gap) {
      if (at > from) runs.push([from, at]);
      from = at;
    }
  }
  return runs;
}

function line(runs, ends, values, x, y) {
  let path = '';
  for (const [from, to] of runs) {
    let pen = 'M';
    for (let at = from; at < to; at += 1) {
      if (values[at] === null) {
        pen = 'M';
        continue;
      }
      path += `${pen}${x(ends[at]).toFixed(1)} ${y(values[at]).toFixed(1)}`;
      // a point alone is a dot: its cap shows
      if (pen === 'M' && (values[at + 1] ?? null) === null) path += 'h0.1';
      pen = 'L';
    }
  }
  return path;
}

function between(runs, ends, low, high, x, y) {
  let path = '';
  for (const [from, to] of runs) {
    const there = [];
    const back = [];
    for (let at = from; at < to; at += 1) {
      const here = x(ends[at]).toFixed(1);
      there.push(`${here} ${y(high[at]).toFixed(1)}`);
      back.push(`${here} ${y(low?.[at] ?? 0).toFixed(1)}`);
    }
    path += `M${there.join('L')}L${back.reverse().join('L')}Z`;
  }
  return path;
}

/** Lines at zero, half and all of the scale, and minutes below. */
function lay(grid, most, y, format, width, minutes) {
  const parts = [];
  for (const value of [0, most / 2, most]) {
    const at = y(value).toFixed(1);
    parts.push(drawn('line', { x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    parts.push(
      drawn('text', { x: LEFT - 6, y: at, dy: '0.32em', 'text-anchor': 'end' }, format(value)),
    );
  }
  for (let ago = minutes; ago >= 0; ago -= minutes / 3) {
    const at = LEFT + (1 - ago / minutes) * (width - LEFT - RIGHT);
    const anchor = ago === 0 ? 'end' : ago === minutes ? 'start' : 'middle';
    const text = ago ? `−${ago} min` : 'now';
    parts.push(drawn('text', { x: at.toFixed(1), y: HEIGHT - 4, 'text-anchor': anchor }, text));
  }
  grid.replaceChildren(...parts);
}

function nearest(ends, moment) {
  let best = -1;
  for (let at = 0; at < ends.length; at += 1) {
    if (best < 0 || Math.abs(ends[at] - moment) <= Math.abs(ends[best] - moment)) best = at;
  }
  return best;
}

const SPARK = { width: 120, height: 28 };

/** A small line without axes, beside a figure that says the same. */
export function spark(host) {
  const { width, height } = SPARK;
  const shape = drawn('path', { class: 'line s1', 'vector-effect': 'non-scaling-stroke' });
  const box = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none' };
  host.append(drawn('svg', { class: 'spark', 'aria-hidden': 'true', ...box }, shape));
  return (ends, values, every) => {
    const latest = ends.at(-1) ?? 0;
    const most = Math.max(0, ...values.filter((value) => value !== null)) || 1;
    const long = span(ends);
    const x = (end) => width - ((latest - end) / long) * width;
    const y = (value) => height - 2 - (value / most) * (height - 4);
    mark(shape, 'd', line(broken(ends, every * GAP), ends, values, x, y));
  };
}
