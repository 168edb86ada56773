// Server-sent events over fetch, with reconnection.
//
// Not EventSource: that cannot send a token, and says nothing of why it was refused.

/** A field's line ends with any of CR, LF, CRLF. */
const LINE_END = /\r\n|\n|\r(?!$)/;

/** Takes text in any pieces, and calls back with (event, data) for each whole event. */
export function reader(onEvent) {
  let rest = '';
  let name = '';
  let data = [];
  const line = (text) => {
    if (text === '') {
      if (data.length) onEvent(name || 'message', data.join('\n'));
      name = '';
      data = [];
      return;
    }
    const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(text);
    if (field === 'event') name = value;
    else if (field === 'data') data.push(value);
  };
  return (piece) => {
    rest += piece;
    for (;;) {
      // a CR at the very end may be half of a CRLF
      const end = LINE_END.exec(rest);
      if (!end) return;
      const text = rest.slice(0, end.index);
      rest = rest.slice(end.index + end[0].length);
      line(text);
    }
  };
}

const LEAST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;
/** A server that says nothing for so long is not there any more. */
const SILENCE_MS = 10_000;

/** How long to wait before the next attempt, the `failures`th in a row; `luck` in [0, 1). */
export function pause(failures, luck) {
  const longest = Math.min(LEAST_PAUSE_MS * 2 ** Math.min(failures, 10), LONGEST_PAUSE_MS);
  // never all pages at once after a restart
  return longest * (0.5 + luck / 2);
}

/**
 * Follows `url` until it is told to stop.
 *
 * `told(state, why)`: `open`, `lost` (with a reason if the server gave one), or `token` when it asks for
 * one; then it waits for `again`. `heard(event, value)`: an event's name and its JSON.
 */
export function follow(url, { token, told, heard }) {
  let stopped = false;
  let current = null;
  let wake = () => {};
  let why = '';

  const rest = (ms) =>
    new Promise((done) => {
      const timer = setTimeout(done, ms);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });

  async function once() {
    why = '';
    const abort = new AbortController();
    current = abort;
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    try {
      const headers = { accept: 'text/event-stream' };
      const secret = token();
      if (secret) headers.authorization = `Bearer ${secret}`;
      const options = { headers, signal: abort.signal, cache: 'no-store', redirect: 'error' };
      const answer = await fetch(url, options);
      if (answer.status === 401) return 'token';
      if (!answer.ok) {
        why = (await answer.json()).error?.message ?? `status ${answer.status}`;
        return 'lost';
      }
      told('open');
      let came = false;
      const push = reader((event, data) => {
        came = true;
        heard(event, JSON.parse(data));
      });
      const body = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await body.read();
        if (done) return came ? 'over' : 'lost';
        alive();
        push(value);
      }
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
  }

  async function forever() {
    let failures = 0;
    while (!stopped) {
      const end = await once().catch(() => 'lost');
      if (stopped) return;
      // a server that closes a long stream in good order is asked again at once
      failures = end === 'over' ? 0 : failures + 1;
      if (end !== 'over') told(end, why);
      await rest(
        end === 'token' ? 2 ** 31 - 1 : end === 'over' ? 50 : pause(failures - 1, Math.random()),
      );
    }
  }

  forever();
  return {
    again: () => wake(),
    stop() {
      stopped = true;
      current?.abort();
      wake();
    },
  };
}
