// Numbers as people read them. Pure: no page, no clock, no locale, so that every reader sees the same.
//
// Money comes in whole billionths of a dollar and is rounded once, here. Times come in milliseconds
// or, from histograms, in seconds.

const NANO_DIGITS = 9;

/** Whole number with commas: 12,345. */
export function whole(value) {
  const digits = Math.round(Math.abs(value)).toString();
  const grouped = digits.replace(/\B(?=(\d{3})+$)/g, ',');
  return value <= -0.5 ? `−${grouped}` : grouped;
}

/** Short count: 999, 9,999, 12.3k, 4.56M. */
export function count(value) {
  if (Math.abs(value) < 10_000) return whole(value);
  for (const [size, unit] of [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ]) {
    // what would round up to a thousand of this unit is one of the next
    if (Math.abs(value) >= size * 0.9995) return digits(value / size) + unit;
  }
  return whole(value);
}

/** Three digits that count, no zeros behind the point: 1.23, 12.3, 123. */
function digits(value) {
  const size = Math.abs(value);
  const places = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  const text = value.toFixed(places);
  return places ? text.replace(/\.?0+$/, '') : text;
}

/** Billionths of a dollar with so many decimals, rounded half away from zero. */
export function dollars(nano, decimals) {
  const step = 10 ** (NANO_DIGITS - decimals);
  const size = Math.abs(nano);
  // whole numbers all the way: no part of a cent comes from a fraction in binary
  const down = Math.floor(size / step);
  const rounded = down + ((size - down * step) * 2 >= step ? 1 : 0);
  const text = rounded.toString().padStart(decimals + 1, '0');
  const cut = text.length - decimals;
  const main = whole(Number(text.slice(0, cut)));
  const sign = nano < 0 && rounded > 0 ? '−' : '';
  return `${sign}$${main}${decimals ? `.${text.slice(cut)}` : ''}`;
}

/** Money at a glance: $0, $0.000171, $0.0312, $4.20, $1,234. Small sums are shown to the micro-dollar. */
export function money(nano) {
  const size = Math.abs(nano);
  if (size === 0) return '$0';
  if (size < 500) return `${nano < 0 ? '−' : ''}<$0.000001`;
  if (size < 10_000_000) return dollars(nano, 6);
  if (size < 1_000_000_000) return dollars(nano, 4);
  return dollars(nano, size < 1_000_000_000_000 ? 2 : 0);
}

/** A length of time, from whole milliseconds: 12 ms, 1.2 s, 2 min 5 s, 3 h 4 min, 2 d 3 h. */
export function duration(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1).replace(/\.0$/, '')} s`;
  const seconds = Math.round(ms / 1_000);
  const steps = [
    [86_400, 'd', 3_600, 'h'],
    [3_600, 'h', 60, 'min'],
    [60, 'min', 1, 's'],
  ];
  for (const [size, unit, less, part] of steps) {
    if (seconds < size) continue;
    const rest = Math.floor((seconds % size) / less);
    return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${part}` : ''}`;
  }
  return `${seconds} s`;
}

/** The same from seconds, as histograms have them, down to microseconds. `null`: none was seen. */
export function latency(seconds) {
  if (seconds === null) return '–';
  if (seconds < 0.0009995) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${digits(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${digits(seconds)} s`;
  return duration(seconds * 1_000);
}

/** Calls or tokens in a second. */
export function rate(perSecond) {
  if (perSecond === 0) return '0/s';
  if (Math.abs(perSecond) >= 999.5) return `${count(perSecond)}/s`;
  return perSecond < 0.01 ? '<0.01/s' : `${digits(perSecond)}/s`;
}

/** 512 B, 1.5 KiB, 64 MiB. */
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (value >= 1023.5 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at ? digits(value) : whole(value)} ${units[at]}`;
}

/** A share of one. Never says 0% or 100% of what is only near it. `null`: not known. */
export function share(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const percent = value * 100;
  if (percent > 0 && percent < 0.1) return '<0.1%';
  if (percent > 99.9 && percent < 100) return '>99.9%';
  const near = percent < 10 || percent > 90;
  return `${percent.toFixed(near ? 1 : 0).replace(/\.0$/, '')}%`;
}

/** `1 call`, `2 calls`. */
export function several(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}

/** Hours, minutes and seconds of the reader's own day. */
export function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()]
    .map((part) => part.toString().padStart(2, '0'))
    .join(':');
}

/** A word of the program as people read it: `first_byte` → `first byte`. */
export function words(name) {
  return String(name).replaceAll(/[_-]/g, ' ');
}
