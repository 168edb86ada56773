// What another threshold would give: the share of questions with a like one kept, and how many of
// those answers are right, by the least likeness that counts. With its figures in a table.
import { count, share } from './format.js';
import { drawn, keep, make, mark, once, say } from './dom.js';

const WIDTH = 360;
const HEIGHT = 160;
const BOX = { left: 40, right: 8, top: 8, bottom: 34 };

export function curve(host) {
  const band = drawn('path', { class: 'band' });
  const right = drawn('path', { class: 'line s3' });
  const would = drawn('path', { class: 'line s1' });
  const now = drawn('line', { class: 'hair', y1: BOX.top, y2: HEIGHT - BOX.bottom });
  const scale = drawn('g', { class: 'grid' });
  const label = 'Curve over thresholds; the table below has its figures.';
  const svg = drawn(
    'svg',
    { class: 'plot', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label },
    scale,
    band,
    would,
    right,
    now,
  );
  const legend = make(
    'p',
    { class: 'about' },
    swatch('s1'),
    'questions with a like one · ',
    swatch('s3'),
    'of those, right (shaded: where the true share lies) · upright line: threshold in force',
  );
  const body = make('tbody');
  const figures = make(
    'details',
    {},
    make('summary', {}, 'The curve in figures'),
    make(
      'table',
      { class: 'legend' },
      make('caption', { class: 'unseen' }, 'Hits and how many are right, by threshold'),
      make(
        'thead',
        {},
        make(
          'tr',
          {},
          ...['Threshold', 'Hits', 'Of questions', 'Compared', 'Right', 'At least', 'At most'].map(
            (text) => make('th', { scope: 'col', class: 'number' }, text),
          ),
        ),
      ),
      body,
    ),
  );
  const none = make('p', { class: 'none' }, 'The curve comes with the first comparison.');
  const box = make('div', {}, svg, legend, figures);
  host.append(box, none);

  return (alike) => {
    const points = alike.curve ?? [];
    box.hidden = points.length < 2;
    none.hidden = points.length >= 2;
    if (points.length < 2) return;
    const [from, to] = [points[0].threshold, points.at(-1).threshold];
    const x = (at) => BOX.left + ((at - from) / (to - from || 1)) * (WIDTH - BOX.left - BOX.right);
    const y = (part) => BOX.top + (1 - part) * (HEIGHT - BOX.top - BOX.bottom);
    const known = points.filter((point) => point.precision.estimate !== null);
    const path = (list, value) =>
      list
        .map(
          (point, at) =>
            `${at ? 'L' : 'M'}${x(point.threshold).toFixed(1)} ${y(value(point)).toFixed(1)}`,
        )
        .join('');
    const hits = (point) => (alike.looks ? point.would / alike.looks : 0);
    mark(would, 'd', path(points, hits));
    mark(
      right,
      'd',
      path(known, (point) => point.precision.estimate),
    );
    const high = path(known, (point) => point.precision.high);
    const low = path([...known].reverse(), (point) => point.precision.low).replace('M', 'L');
    mark(band, 'd', known.length ? `${high}${low}Z` : '');
    const stands = alike.threshold !== null && alike.threshold >= from && alike.threshold <= to;
    mark(now, 'visibility', stands ? 'visible' : 'hidden');
    if (stands) {
      mark(now, 'x1', x(alike.threshold).toFixed(1));
      mark(now, 'x2', x(alike.threshold).toFixed(1));
    }
    lay(scale, from, to, x, y);
    keep(
      body,
      points,
      (point) => point.threshold.toFixed(3),
      row,
      (node, point) => {
        const { estimate, low: least, high: most } = point.precision;
        const texts = [
          point.threshold.toFixed(3),
          count(point.would),
          share(hits(point)),
          count(point.compared),
          share(estimate),
          share(least),
          share(most),
        ];
        texts.forEach((text, at) => say(node.cells[at], text));
      },
    );
  };
}

const row = () =>
  make(
    'tr',
    {},
    make('th', { scope: 'row', class: 'number' }),
    ...Array.from({ length: 6 }, () => make('td', { class: 'number' })),
  );

function swatch(style) {
  return drawn(
    'svg',
    { class: 'swatch', 'aria-hidden': 'true', width: 18, height: 10 },
    drawn('line', { class: `line ${style}`, x1: 0, x2: 18, y1: 5, y2: 5 }),
  );
}

function lay(scale, from, to, x, y) {
  const key = `${from}-${to}`;
  const drawnFor = once(scale, () => ({ key: null }));
  if (drawnFor.key === key) return;
  drawnFor.key = key;
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const at = y(part).toFixed(1);
    parts.push(drawn('line', { x1: BOX.left, x2: WIDTH - BOX.right, y1: at, y2: at }));
    parts.push(
      drawn('text', { x: BOX.left - 6, y: at, dy: '0.32em', 'text-anchor': 'end' }, share(part)),
    );
  }
  for (const [at, anchor] of [
    [from, 'start'],
    [(from + to) / 2, 'middle'],
    [to, 'end'],
  ]) {
    parts.push(
      drawn(
        'text',
        { x: x(at).toFixed(1), y: HEIGHT - BOX.bottom + 14, 'text-anchor': anchor },
        at.toFixed(3),
      ),
    );
  }
  parts.push(
    drawn(
      'text',
      { x: (WIDTH + BOX.left) / 2, y: HEIGHT - 4, 'text-anchor': 'middle' },
      'least likeness that counts',
    ),
  );
  scale.replaceChildren(...parts);
}
