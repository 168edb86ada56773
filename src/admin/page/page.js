// The live page of the admin listener: it reads `/live` and shows what it says.
//
// It draws nothing by itself: figures.js has the head, the figures and the charts; agents.js,
// calls.js, upstreams.js, tasks.js and cache.js each a section; model.js and format.js reckon.
//
// # What it reads
//
// `GET /live`, `text/event-stream`; asks with `Authorization: Bearer` once a token was entered, which it
// is asked for when the answer is 401. First one event `history`, then an event `now` each
// second. Both are JSON objects in one `data` line. The server may end the stream when it likes; the
// page opens another, and its `history` replaces all that was known. A line `: ` (or anything) must
// come at least every 10 s, else the page takes the server for gone.
//
// Counts are whole and since the start of the process, but in points, where they are of that point.
// Money is in billionths of a dollar (`…_nano`), times in Unix milliseconds (`at_ms`, `end_ms`,
// `…ed_ms`), lengths of time in milliseconds (`left_ms`, `age_ms`, …). An object with a new field is no new
// version: readers leave what they do not know. Texts are shown as text, whatever is in them.
//
// history:
//   started_ms  start of the process: another value means that it began anew
//   every_ms    length of a point: 2000
//   last        number of the last point; points are numbered from the start, without gaps
//   bounds      { first_token: [s, …], overhead: [s, …] }: upper bounds of buckets in seconds, ascending
//   points      columns of at most 450 values each, the oldest first:
//     end_ms                                    when the point ended
//     calls_complete calls_refused calls_upstream calls_deadline calls_client_gone
//                                               calls that ended so; `upstream` is upstream_error,
//                                               upstream_broken and truncated, `deadline` all deadline_*,
//                                               `client_gone` also those that an operator cancelled
//     input_tokens output_tokens                as upstream reported them
//     spend_nano saved_nano saved_calls saved_tokens
//     cache_hit cache_canonical cache_semantic cache_joined cache_partial cache_miss cache_bypass
//     in_flight waiting                         at the end of the point; the most at once within it
//     first_token overhead                      counts by bucket (one more than bounds), or null for none
//
// now:
//   at_ms started_ms version stage              `stage`: serving, leaving, draining, ending
//   ready why                                   as /readyz: bool, and texts a person should know
//   actions                                     `off`: no buttons; `open`: POST as it is;
//                                               `token`: with the token
//   listen                                      addresses that agents call, `host:port` or `unix:…`, ≤ 8
//   policy                                      { loaded_ms }; its text: GET /config
//   connections memory                          memory: { held, budget, level }
//   in_flight waiting                           calls now
//   point                                       the last whole point: { n, end_ms, …one value of each
//                                               column }; the same one may come twice
//   totals                                      { calls, spend_nano, saved_nano, cache: { hit: 2, … } }
//   agents_total agents                         ≤ 50, those that are busy or did most; each: agent team
//                                               rung class in_flight waiting calls input_tokens
//                                               output_tokens spend_nano saved_calls saved_tokens
//                                               saved_nano waited_ms wait_p50_ms wait_max_ms refused
//                                               refusals ([[reason, count], …] ≤ 4, most first)
//                                               runaway limits (≤ 8, the fullest first)
//   limits                                      ≤ 50, the fullest first, of those that stand at no agent
//                                               (per session, credential, model, route, upstream); a limit:
//                                               policy measure per scope used held limit resets_in_ms mode
//   upstreams_total upstreams                   ≤ 50 that had a call or connection; each: name in_flight
//                                               waiting concurrency pool breaker retries_left keys
//                                               addresses (≤ 16) queue ({ depth slots running pace })
//   lanes                                       ≤ 50: route running slots waiting depth
//   calls_total calls                           ≤ 200, the oldest first; each: request_id agent model
//                                               operation stage position age_ms bytes tokens upstream
//   tasks task_rows webhooks streams            as /state; `tasks` null: there are none; `task_rows`: ≤ 50
//                                               as /tasks, those not over before those that are, or null
//   cache                                       as /cache, ≤ 20 policies; `alike` also has mode (shadow,
//                                               on, off) and curve: ≤ 41 of { threshold, would, compared,
//                                               precision: { estimate, low, high } }, by threshold
//
// # What it asks for
//
// `GET /config`: the policy in force as text, redacted. `POST /calls/REQUEST_ID/cancel` and
// `POST /tasks/ID/cancel`, both with `x-tidegate-page: 1`: 2xx when it is being ended, 404 when it was over;
// other answers carry `error.message`.
import { append, opened } from './model.js';
import { duration } from './format.js';
import { find, mark, say } from './dom.js';
import { allow, wire } from './actions.js';
import { glance, head, look } from './figures.js';
import { agents } from './agents.js';
import { calls } from './calls.js';
import { upstreams } from './upstreams.js';
import { tasks } from './tasks.js';
import { cache } from './cache.js';
import { follow } from './stream.js';

/** A page that nobody looks at for so long lets go of the stream. */
const UNSEEN_MS = 30_000;
/** Without news for so long, figures are said to be old. */
const STALE_MS = 5_000;
const KEY = 'tidegate-token';

let history = null;
/** There are points that no chart shows yet. */
let fresh = false;
let heardAt = 0;
let stage = null;
let policyOf = null;
let stream = null;
let unseen = null;

const token = () => sessionStorage.getItem(KEY) ?? '';

// asked at once: the answer comes while the rest is made
open();

const sections = [agents(), calls(), upstreams(), tasks(), cache()];
const figures = glance();

/** Read out, and rarely: when the connection or the stage changes, and when something was ended. */
function tell(text, level = 'plain') {
  mark(find('news'), 'data-level', level);
  say(find('news'), text);
}

function askForToken() {
  const box = find('token');
  if (!box.hidden) return;
  box.hidden = false;
  find('token-field').focus();
  tell('This instance asks for its token.', 'warn');
}

const heard = {
  history(event) {
    history = opened(event);
    figures.counted(history);
    fresh = true;
  },
  now(now) {
    if (!history) return;
    heardAt = performance.now();
    mark(document.body, 'data-stale', false);
    if (append(history, now.point)) {
      figures.counted(history);
      fresh = true;
    }
    allow(now.actions);
    head(now);
    look(now);
    figures.told(now, history);
    for (const show of sections) show(now);
    if (fresh) draw();
    if (stage !== null && stage !== now.stage) tell(`Tidegate is ${now.stage}.`, 'warn');
    stage = now.stage;
    if (policyOf !== now.policy.loaded_ms) {
      policyOf = now.policy.loaded_ms;
      readPolicy();
    }
  },
};

/** The charts, once the figures stand. */
function draw() {
  fresh = false;
  requestAnimationFrame(() => figures.drawn(history));
}

function told(state, why) {
  if (state === 'open') {
    if (find('news').dataset.level !== 'plain') tell('');
    find('token').hidden = true;
  } else if (state === 'token') {
    sessionStorage.removeItem(KEY);
    askForToken();
  } else {
    tell(
      why
        ? `The instance shows nothing here: ${why}.`
        : 'The instance does not answer. Trying again.',
      'bad',
    );
    mark(document.body, 'data-stale', true);
  }
}

function open() {
  heardAt = 0;
  stream = follow('live', {
    token,
    told,
    heard: (event, value) => {
      try {
        heard[event]?.(value);
      } catch (fault) {
        // a fault of ours is no loss of the server
        reportError(fault);
      }
    },
  });
}

async function readPolicy() {
  if (!find('policy-box').open) return;
  const headers = token() ? { authorization: `Bearer ${token()}` } : {};
  try {
    const answer = await fetch('config', { headers, cache: 'no-store', redirect: 'error' });
    say(find('policy-text'), answer.ok ? await answer.text() : 'It is not shown here.');
  } catch {
    say(find('policy-text'), 'The instance did not answer.');
  }
}

wire({ token, ask: askForToken, told: (text) => tell(text) });
find('policy-box').addEventListener('toggle', readPolicy);
find('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = find('token-field');
  sessionStorage.setItem(KEY, field.value.trim());
  field.value = '';
  find('token').hidden = true;
  find('main').focus();
  stream.again();
});

document.addEventListener('visibilitychange', () => {
  clearTimeout(unseen);
  if (document.hidden) {
    unseen = setTimeout(() => {
      stream?.stop();
      stream = null;
    }, UNSEEN_MS);
  } else if (!stream) {
    open();
  }
});

setInterval(() => {
  if (!heardAt || document.hidden) return;
  const silent = performance.now() - heardAt;
  const stale = silent > STALE_MS;
  if (!stale) return;
  mark(document.body, 'data-stale', true);
  // not in the live region: it would be read out each second
  say(find('stage'), `No news for ${duration(Math.round(silent / 1_000) * 1_000)}`);
  mark(find('stage'), 'data-level', 'bad');
}, 1_000);
