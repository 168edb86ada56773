//! The book: every bucket, every queue, and who holds what of them. One lock guards it
//! ([`super::Limits`]), so that a call gets all it asks for, or nothing.
//!
//! ```text
//! ask ─► plan (which buckets, how much) ─► fits all? ─► Grant ─► use_up … ─► settle
//!                                             └─► no: refused, or a place in the fair queue
//! ```
//!
//! Reserve and settle, aware of rates: a call is charged its input and holds its predicted output;
//! what it produces is counted while it streams; the backend's own count settles it, exactly once.
//! Debt stays. Time is an argument, nothing here waits, wakes or allocates for a call that goes at
//! once, but for its list of parts, which is used again.
mod deny;
mod entrance;
mod exchange;
mod lane;
mod ledger;
mod line;
mod plan;
mod pool;
mod settle;
mod table;
mod turn;
mod view;

use std::hash::RandomState;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

pub use self::lane::{LaneId, LaneRule};
pub use self::ledger::{Saved, SavedKey, Unsaved};
pub use self::plan::{Ask, Clamp};
pub use self::pool::{PoolId, PoolRule};
pub use self::settle::{End, Fate, Settled};
pub use self::view::{AgentLine, Fullest, LaneLine, LimitLine, QueueLine, Standing};

use self::entrance::{Entrance, EntranceId};
use self::lane::Lane;
use self::line::Waiting;
use self::plan::{Blocked, Plan, PlanPart};
use self::pool::Pool;
use self::table::Table;
use super::bucket::Moment;
use super::pace::{Need, Sent};
use super::predict::{Predictor, Subject as History};
use super::prehashed::Prehashed;
use super::price::Rate;
use super::queue::{CallId, FlowId};
use super::rules::{LimitOf, Rules};
use super::runaway::{Caller, Flag, Guard};

/// Most calls that wait for one upstream.
const LONGEST_QUEUE: usize = 10_000;
/// Most lists kept for use.
const SPARE: usize = 256;

#[derive(Default)]
pub struct Book {
    rules: Arc<Rules>,
    table: Table,
    pools: Vec<Pool>,
    lanes: Vec<Lane>,
    entrances: Vec<Entrance>,
    /// Places given so far.
    turns: u64,
    waits: Slab<Waiting>,
    /// At once, since somebody asked.
    most_waited: usize,
    predictor: Predictor,
    guard: Guard,
    hasher: RandomState,
    agents: Prehashed<u64, view::Present>,
    /// When somebody who waits is to be looked at again.
    wake_at: Option<u64>,
    /// Whose turn has come; woken once the lock is free.
    woken: Vec<Waker>,
    /// Lists, to be used again.
    spare: Vec<Vec<Part>>,
    spare_plans: Vec<Vec<PlanPart>>,
}

/// What a call got of one bucket.
#[derive(Debug, Clone, Copy)]
struct Part {
    bucket: usize,
    held: i64,
    margin: i64,
    speed: i64,
    /// Charged so far.
    counted: i64,
    /// As a request, it stays charged.
    sunk: bool,
    /// What a token of output costs in this bucket.
    per_token: i64,
}

/// Leave to go, and what must be given back. Hand it to [`Book::settle`].
#[derive(Debug)]
#[must_use = "what it holds is only given back by settling it"]
pub struct Grant {
    parts: Vec<Part>,
    pool: PoolId,
    lane: Option<LaneId>,
    entrance: EntranceId,
    flow: FlowId,
    pace: Option<(usize, Sent)>,
    pace_key: (u64, u64),
    need: Need,
    agent: u64,
    history: History,
    rate: Option<Rate>,
    /// Under a guard against loops.
    guarded: Option<Caller>,
    answers: u64,
    service: u64,
    weight: u32,
    prompt_bytes: u64,
    /// Predicted tokens.
    pub input: u64,
    pub output: u64,
    /// Counted of them while it ran.
    produced: u64,
    /// What the forwarded call must say instead of its own bound.
    pub clamp: Option<Clamp>,
    /// A limit in observe mode that would have refused it.
    pub would_refuse: Option<Arc<LimitOf>>,
    pub runaway: Option<Flag>,
    /// A hard budget of it wants streams ended that go past it.
    pub cuts: bool,
    /// Some limit counts its tokens.
    pub counts_tokens: bool,
    /// Under a limit of a calendar's period.
    budgeted: bool,
    /// It has no place at the upstream.
    here: bool,
}

/// What becomes of a call that asks.
#[derive(Debug)]
pub enum Decision {
    Go(Box<Grant>),
    /// It stands in line; ask [`Book::poll`], or [`Book::leave`].
    Wait {
        call: CallId,
        longest: Duration,
    },
    No(Denial),
}

/// Why not.
#[derive(Debug, Clone, Default)]
pub struct Denial {
    pub why: Why,
    /// The limit that is full, and whose bucket of it.
    pub limit: Option<(Arc<LimitOf>, Arc<str>)>,
    /// The route whose lane is full, of calls that run or that wait, where no limit is.
    pub lane: Option<Arc<str>>,
    /// When it may fit.
    pub retry: Option<Duration>,
    /// All limits that the call is under, as they stand.
    pub standing: Vec<Standing>,
    pub runaway: Option<Flag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Why {
    #[default]
    Full,
    /// It asks for more than the limit allows at once, ever.
    TooLarge,
    /// A hard budget is spent.
    Spent,
    /// The line is as long as it may be.
    QueueFull,
    /// Nobody knows what the model costs, and a hard budget must.
    Unpriced,
    /// The budget cannot be written down.
    Unsaved,
    /// Its session runs away, and a policy stops that.
    Runaway,
}

impl Book {
    pub fn new() -> Self {
        Self::default()
    }

    /// New policies, new rules of upstreams, and all lanes. What has been used stays used.
    pub fn apply(
        &mut self,
        rules: Arc<Rules>,
        pools: impl IntoIterator<Item = PoolRule>,
        lanes: impl IntoIterator<Item = LaneRule>,
        now: Moment,
    ) {
        for pool in pools {
            self.pool(pool);
        }
        self.lanes_are(lanes);
        self.table.apply(&rules, now);
        self.rules = rules;
        for entrance in &mut self.entrances {
            entrance.queue.unpark_all();
        }
        self.drain_all(now);
    }

    /// No policy, so nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// May this call go?
    pub fn ask(&mut self, ask: &Ask<'_>, now: Moment) -> Decision {
        let plan = self.plan(ask, None, now);
        self.decide(plan, ask, now)
    }

    fn decide(&mut self, plan: Plan, ask: &Ask<'_>, now: Moment) -> Decision {
        if let Some(denial) = Self::impossible(&plan, ask) {
            return self.refuse(plan, denial, now);
        }
        let blocked = self.table.check(&plan, now);
        if let Err(Blocked::Limit(held)) = &blocked
            && let Some(denial) = self.may_not_wait(&plan, held)
        {
            return self.refuse(plan, denial, now);
        }
        if let Ok(clamp) = blocked
            // what needs no place stands in nobody's way
            && (plan.here || plan.moved || self.is_next(&plan))
            && self.has_room(&plan, now.at)
        {
            let grant = self.grant(&plan, clamp, now);
            self.recycle(plan);
            return Decision::Go(grant);
        }
        self.wait(plan, &blocked, now)
    }

    /// When [`Self::advance`] may let somebody go.
    pub fn wake_at(&self) -> Option<u64> {
        self.wake_at
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Moment) {
        self.drain_all(now);
    }

    /// Who is to be woken. Call it when the lock is free, or about to be.
    pub fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    /// A plan has served; its list is used again.
    fn recycle(&mut self, plan: Plan) {
        let mut parts = plan.parts;
        parts.clear();
        if self.spare_plans.len() < SPARE {
            self.spare_plans.push(parts);
        }
    }

    /// What a store has kept. Before the first call; from then on budgets are written down.
    pub fn restore(&mut self, all: impl IntoIterator<Item = (SavedKey, Saved)>) {
        self.table.restore(all);
    }

    /// What is to be written down: what calls wait for, and with `all` what has changed.
    pub fn take_unsaved(&mut self, all: bool, now: Moment) -> Vec<Unsaved> {
        self.table.take_unsaved(all, now)
    }

    /// It is on disk: calls that waited for that may go.
    pub fn saved(&mut self, all: &[Unsaved], now: Moment) {
        for one in all {
            self.table.saved(one);
        }
        self.drain_all(now);
    }

    /// Nothing can be written down any more; budgets hold on in memory.
    pub fn lose_store(&mut self, now: Moment) {
        self.table.lose_store();
        self.drain_all(now);
    }

    /// Calls that wait, for all upstreams.
    pub fn waiting(&self) -> usize {
        self.entrances.iter().map(Entrance::waiting).sum()
    }

    /// The most that waited at once since this was last asked.
    pub fn take_most_waited(&mut self) -> usize {
        std::mem::take(&mut self.most_waited).max(self.waiting())
    }

    /// Keeps things small; about once a second.
    pub fn sweep(&mut self, now: Moment) {
        self.table.sweep(now);
        for pool in &mut self.pools {
            pool.paces.sweep(now.at);
        }
        for entrance in &mut self.entrances {
            entrance.queue.sweep(now.at);
        }
        self.forget_agents(now.at);
    }
}

#[cfg(test)]
mod tests;
