//! Agents and queues, as `/state` shows them: what metrics have counted, with what the book of limits
//! knows of now.
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::{Measure, Per};
use crate::identity::Class;
use crate::limits::Limits;
use crate::limits::book::{Fullest, LaneLine, LimitLine, QueueLine};
use crate::limits::pace::State;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{LimitUse, Metrics, PoolGauges};
use crate::telemetry::view::{AgentView, AgentsView, LaneView, LimitView, PaceView, QueueView};

const MILLION: u64 = 1_000_000;
/// Most buckets that are shown beside those of the agents.
const MOST_LIMITS: usize = 1_000;

pub fn view(limits: &Limits, metrics: &Metrics) -> AgentsView {
    let (present, queues, lanes) =
        limits.with(|book, now| (book.agents(now), book.queues(now), book.lanes()));
    let mut lines = Vec::new();
    limits.by_pages(|book, from, now| book.limits_from(from, now, &mut lines));
    let now = limits.now().at;
    let mut agents: Vec<_> = metrics.agents().iter().map(AgentView::of).collect();
    let mut at: HashMap<(String, String), usize> = agents
        .iter()
        .enumerate()
        .map(|(at, agent)| ((agent.team.clone(), agent.agent.clone()), at))
        .collect();
    for here in present {
        let key = (here.team.as_deref().unwrap_or("").to_owned(), here.agent.to_string());
        let at = *at.entry(key).or_insert_with_key(|(team, agent)| {
            let (agent, team) = (agent.clone(), team.clone());
            agents.push(AgentView { agent, team, ..AgentView::default() });
            agents.len() - 1
        });
        agents[at].in_flight = here.running.into();
        agents[at].waiting = here.waiting.into();
        agents[at].runaway = here.runaway;
    }
    let of = by_scope(&lines);
    let all = of.get(&(Per::All, "")).map_or(&[][..], Vec::as_slice);
    for agent in &mut agents {
        let whose = if agent.team.is_empty() {
            agent.agent.clone()
        } else {
            format!("{}/{}", agent.team, agent.agent)
        };
        let own = [(Per::Agent, &*whose), (Per::Team, &*agent.team)].map(|key| of.get(&key));
        let own = own.into_iter().flatten().flatten();
        agent.limits = own.chain(all).map(|line| limit(line)).collect();
    }
    let queues = queues.iter().map(|line| queue(line, now)).collect();
    let lanes = lanes.iter().map(lane).collect();
    AgentsView { agents, queues, lanes, limits: fullest(lines).iter().map(limit).collect() }
}

/// Those that agents see, by whose they are; the ones for all without a name.
fn by_scope(lines: &[LimitLine]) -> HashMap<(Per, &str), Vec<&LimitLine>> {
    let mut of: HashMap<_, Vec<_>> = HashMap::new();
    for line in lines {
        match line.per {
            Per::Agent | Per::Team => of.entry((line.per, &*line.scope)).or_default().push(line),
            Per::All => of.entry((Per::All, "")).or_default().push(line),
            _ => {}
        }
    }
    of
}

fn fullest(mut lines: Vec<LimitLine>) -> Vec<LimitLine> {
    let share = |line: &LimitLine| {
        (i128::from(line.used) + i128::from(line.held)) * 1_000_000
            / i128::from(line.capacity.max(1))
    };
    lines.sort_by_cached_key(|line| std::cmp::Reverse(share(line)));
    lines.truncate(MOST_LIMITS);
    lines
}

fn limit(line: &LimitLine) -> LimitView {
    // money stays in billionths, all else is whole
    let scale = if line.measure == Measure::Spend { 1 } else { line.measure.scale() };
    LimitView {
        policy: line.policy.to_string(),
        measure: line.measure.as_str().to_owned(),
        per: line.per.as_str().to_owned(),
        scope: line.scope.to_string(),
        used: line.used / scale,
        held: line.held / scale,
        limit: line.capacity / scale,
        resets_in_ms: (line.measure != Measure::Concurrency).then_some(line.resets_in / MILLION),
        mode: line.mode.as_str().to_owned(),
    }
}

fn queue(line: &QueueLine, now: u64) -> QueueView {
    let pace = line.paces.first().map(|pace| {
        let a_minute = |refill: f64| (refill * 60.0) as u64;
        let tokens = pace.tokens.or(pace.input_tokens);
        PaceView {
            paused_ms: pace.paused_until.map_or(0, |until| until.saturating_sub(now) / MILLION),
            requests_per_min: pace.requests.map(|window| a_minute(window.refill)),
            tokens_per_min: tokens.map(|window| a_minute(window.refill)),
            window: pace.width.or(pace.latency_limit).map(u64::from),
        }
    });
    QueueView {
        upstream: line.upstream.to_string(),
        depth: line.waiting.iter().sum::<usize>() as u64,
        slots: line.slots.map(|slots| slots as u64),
        running: line.running as u64,
        pace,
    }
}

fn lane(line: &LaneLine) -> LaneView {
    LaneView {
        route: line.route.to_string(),
        running: line.running as u64,
        slots: line.slots.map(|slots| slots as u64),
        waiting: line.waiting.iter().sum::<usize>() as u64,
        depth: line.depth as u64,
    }
}

/// How full each limit is, for the metrics.
pub fn used(limits: &Limits) -> Vec<LimitUse> {
    let mut fullest = Fullest::new();
    limits.by_pages(|book, from, now| book.fullest_from(from, now, &mut fullest));
    fullest
        .into_iter()
        .map(|((policy, measure, mode), ratio)| LimitUse { policy, measure, mode, ratio })
        .collect()
}

/// Puts queues and lanes into the gauges. Calls may still wait for an upstream that a reload removed.
pub fn show_queues(limits: &Limits, snapshot: &Snapshot, metrics: &Metrics) {
    let (queues, lanes, now) = limits.with(|book, now| (book.queues(now), book.lanes(), now.at));
    metrics.lanes_are(lanes.iter().map(lane).collect());
    let wait = |gauges: &PoolGauges, queue: &QueueLine| {
        for (class, waiting) in Class::ALL.into_iter().zip(queue.waiting) {
            gauges.queued(class).store(i64::try_from(waiting).unwrap_or(i64::MAX), Relaxed);
        }
    };
    for (pool, queue) in queues.iter().enumerate() {
        let Some(upstream) = snapshot.upstreams.iter().find(|one| one.pool == pool) else {
            wait(&metrics.pool(&queue.upstream), queue);
            continue;
        };
        let gauges = &upstream.shared.gauges;
        wait(gauges, queue);
        let slots = queue.slots.map_or(0, |slots| i64::try_from(slots).unwrap_or(i64::MAX));
        gauges.slots.store(slots, Relaxed);
        let paused = |pace: &&State| pace.paused_until.is_some_and(|until| until > now);
        let held_back = queue.paces.iter().filter(paused).count();
        gauges.paused.store(i64::try_from(held_back).unwrap_or(i64::MAX), Relaxed);
    }
}
