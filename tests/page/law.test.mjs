// What the page's files may not hold, and what they must: held against the text, so that no browser is
// needed. Run: node --test tests/page
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

const home = new URL('../../src/admin/page/', import.meta.url);
const names = readdirSync(home);
const text = (name) => readFileSync(new URL(name, home), 'utf8');
const html = text('index.html');
const css = text('page.css');
const scripts = names.filter((name) => name.endsWith('.js'));

test('nothing is inline, and nothing is asked of others', () => {
  assert.doesNotMatch(html, /\sstyle=|\son\w+=|<style|javascript:/i);
  for (const [, inside] of html.matchAll(/<script[^>]*>([^]*?)<\/script>/g))
    assert.equal(inside, '');
  for (const name of names) {
    const urls = [...text(name).matchAll(/\b(?:https?:)?\/\/[\w.-]+\.\w+/g)].map(([url]) => url);
    // a namespace is a name
    assert.deepEqual(
      urls.filter((url) => url !== 'http://www.w3.org'),
      [],
      name,
    );
  }
  assert.doesNotMatch(css, /@import|url\(/);
});

test('data never becomes markup or code', () => {
  const bans =
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc|setHTML/;
  for (const name of scripts) {
    assert.doesNotMatch(text(name), bans, name);
    // through the CSSOM it would be allowed; we need none
    assert.doesNotMatch(text(name), /\.style\b(?!\})\s*[.=[]|'style':/, name);
  }
});

test('a browser asks for three files, and every module is there', () => {
  const told = [...html.matchAll(/(?:href|src)="page\/([\w.]+)"/g)].map(([, name]) => name);
  assert.deepEqual(told, ['icon.svg', 'page.css', 'page.js']);
  for (const name of scripts) {
    for (const [, from] of text(name).matchAll(/from '\.\/([\w.]+)'/g))
      assert.ok(names.includes(from), `${name}: ${from}`);
  }
});

test('every name that a script looks for stands in the document, once', () => {
  const ids = [...html.matchAll(/\sid="([\w-]+)"/g)].map(([, id]) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const name of scripts) {
    for (const [, id] of text(name).matchAll(/find\('([\w-]+)'\)/g))
      assert.ok(ids.includes(id), `${name}: ${id}`);
  }
  for (const [, id] of text('figures.js').matchAll(/'(chart-\w+)'/g))
    assert.ok(ids.includes(id), id);
  for (const [, id] of html.matchAll(/(?:aria-labelledby|for)="([\w-]+)"|href="#([\w-]+)"/g))
    assert.ok(!id || ids.includes(id), id);
});

test('tables have captions, sections have headings', () => {
  assert.equal(html.match(/<table/g).length, html.match(/<table[^>]*><caption/g).length);
  for (const [, labelled] of html.matchAll(/<section ([^>]*)>/g))
    assert.match(labelled, /aria-labelledby=/);
  assert.equal(html.match(/<h1/g).length, 1);
  assert.match(html, /<html lang="en">/);
  // one region is read out, and it is not one that changes each second
  assert.deepEqual(
    [...html.matchAll(/<(\w+) id="(\w+)"[^>]*role="status"/g)].map(([, , id]) => id),
    ['news'],
  );
  assert.doesNotMatch(html, /aria-live/);
});

test('text and lines stand out from what is behind them, in both palettes', () => {
  const palettes = [...css.matchAll(/:root \{([^}]*)\}/g)].map(([, inside]) =>
    Object.fromEntries(
      [...inside.matchAll(/--(\w+): (#[0-9a-f]{6});/g)].map(([, name, value]) => [name, value]),
    ),
  );
  assert.equal(palettes.length, 2);
  assert.deepEqual(Object.keys(palettes[0]), Object.keys(palettes[1]));
  for (const palette of palettes) {
    for (const ground of ['ground', 'surface']) {
      for (const name of ['ink', 'soft', 'good', 'warn', 'bad', 'link']) {
        const seen = contrast(palette[name], palette[ground]);
        assert.ok(seen >= 4.5, `${name} on ${ground}: ${seen.toFixed(2)}`);
      }
      for (const name of ['s1', 's2', 's3', 's4', 's5', 's6', 'edge']) {
        const seen = contrast(palette[name], palette[ground]);
        assert.ok(seen >= 3, `${name} on ${ground}: ${seen.toFixed(2)}`);
      }
    }
  }
});

/** Of WCAG 2.2. */
function contrast(one, other) {
  const light = (colour) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const part = parseInt(colour.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}
