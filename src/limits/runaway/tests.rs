//! What is a loop and what is none, on a clock of the test's own.
use super::*;

const SECOND: u64 = 1_000_000_000;
const ME: Caller = Caller { agent: 1, session: 2 };

fn rule(action: RunawayAction) -> Runaway {
    Runaway { repeats: 5, factor: 10.0, action }
}

/// An agent with one conversation.
struct Agent {
    guard: Guard,
    rule: Runaway,
    caller: Caller,
    id: u64,
    turn: u64,
    now: u64,
}

impl Agent {
    fn new(action: RunawayAction) -> Self {
        let guard = Guard::default();
        Self { guard, rule: rule(action), caller: ME, id: 3, turn: 1, now: SECOND }
    }

    fn send(&mut self, tool: Option<u64>) -> Option<Flag> {
        let tool = tool.map(|hash| ToolCall { hash, turn: self.turn });
        let talk = Conversation { id: self.id, tool };
        let mut seen = self.guard.see(self.caller, Some(talk), self.now);
        seen.judge(&self.rule);
        self.guard.decide(&seen)
    }

    /// The next turn, in which this tool had been called.
    fn call(&mut self, tool: u64) -> Option<Flag> {
        self.turn += 2;
        self.now += SECOND;
        self.send(Some(tool))
    }

    /// A call ends that has used so many tokens, so many seconds after the one before.
    fn used(&mut self, tokens: u64, after: u64) -> Option<Flag> {
        self.now += after * SECOND;
        self.guard.settled(self.caller, tokens, None, self.now);
        self.ask()
    }

    fn ask(&mut self) -> Option<Flag> {
        let mut seen = self.guard.see(self.caller, None, self.now);
        seen.judge(&self.rule);
        self.guard.decide(&seen)
    }

    /// Twelve calls of 1,000 tokens in each of so many minutes.
    fn steady(&mut self, minutes: u64) {
        for _ in 0..12 * minutes {
            assert_eq!(self.used(1000, 5), None);
        }
    }
}

#[test]
fn the_same_call_again_and_again_is_flagged_once_and_for_all_that_follow() {
    let mut agent = Agent::new(RunawayAction::Observe);
    for _ in 0..4 {
        assert_eq!(agent.call(7), None);
    }
    let flag = agent.call(7).unwrap();
    assert_eq!((flag.pattern, flag.fresh, flag.wait), (Pattern::Loop, true, Duration::ZERO));
    assert!(!agent.call(7).unwrap().fresh);
    assert_eq!(agent.call(8), None, "it does something else");
    for _ in 0..4 {
        assert_eq!(agent.call(7), None, "it starts anew");
    }
    assert!(agent.call(7).unwrap().fresh);
}

#[test]
fn cycles_of_two_and_three_calls_count_by_their_rounds() {
    for cycle in [&[1, 2][..], &[1, 2, 3], &[1, 1, 2]] {
        let mut agent = Agent::new(RunawayAction::Observe);
        let flags: Vec<_> =
            (0..40).map(|at| agent.call(cycle[at % cycle.len()]).is_some()).collect();
        let first = flags.iter().position(|flag| *flag);
        assert_eq!(first, Some(5 * cycle.len() - 1), "{cycle:?}");
        assert!(flags[5 * cycle.len()..].iter().all(|flag| *flag));
    }
    let mut agent = Agent::new(RunawayAction::Observe);
    for at in 0..100 {
        assert_eq!(agent.call([1, 2, 3, 4][at % 4]), None, "a cycle of four is a way of working");
    }
}

#[test]
fn a_request_that_comes_again_counts_nothing_and_stays_what_it_was() {
    let mut agent = Agent::new(RunawayAction::Slow);
    agent.call(7);
    for _ in 0..50 {
        assert_eq!(agent.send(Some(7)), None);
    }
    for _ in 0..3 {
        assert_eq!(agent.call(7), None);
    }
    let flag = agent.call(7).unwrap();
    let again = agent.send(Some(7)).unwrap();
    assert_eq!((again.fresh, again.wait), (false, flag.wait));
}

#[test]
fn work_is_no_loop() {
    let mut agent = Agent::new(RunawayAction::Stop);
    for tool in 0..200 {
        assert_eq!(agent.call(tool), None, "all different");
    }
    for _ in 0..20 {
        assert_eq!(agent.call(7), None, "with the user's word between");
        agent.turn += 2;
        assert_eq!(agent.send(None), None);
    }
    for poll in 0..200 {
        assert_eq!(
            agent.call(if poll % 4 < 3 { 7 } else { 100 + poll }),
            None,
            "with work between"
        );
    }
}

#[test]
fn conversations_of_one_agent_are_told_apart() {
    let mut agent = Agent::new(RunawayAction::Stop);
    // forty workers under one name, each of which asks for its task first
    for worker in 0..40 {
        (agent.id, agent.turn) = (worker, 1);
        assert_eq!(agent.call(7), None);
    }
    // the same question to all, asked at different turns: none of them repeats itself
    agent.id = 99;
    for _ in 0..20 {
        agent.turn = 1;
        assert_eq!((agent.call(7), agent.call(8)), (None, None));
    }
    // one of them hangs, and the others do not hide it
    let mut flagged = 0;
    for round in 0..10 {
        for worker in 0..40 {
            (agent.id, agent.turn) = (worker, 10 + 2 * round);
            let tool = if worker == 17 { 1 } else { 1000 * worker + round };
            let flag = agent.call(tool);
            assert!(flag.is_none() || worker == 17);
            flagged += usize::from(flag.is_some());
        }
    }
    assert_eq!(flagged, 6);
}

#[test]
fn a_slowed_loop_waits_twice_as_long_each_time_and_goes_on_when_it_ends() {
    let mut agent = Agent::new(RunawayAction::Slow);
    let mut waits = Vec::new();
    for _ in 0..12 {
        waits.extend(agent.call(7).map(|flag| flag.wait.as_secs()));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(agent.call(8), None);
    for _ in 0..4 {
        agent.call(7);
    }
    assert_eq!(agent.call(7).unwrap().wait, Duration::from_secs(1));
}

#[test]
fn a_stopped_loop_may_go_on_with_something_else_or_after_a_pause() {
    let mut agent = Agent::new(RunawayAction::Stop);
    for _ in 0..5 {
        agent.call(7);
    }
    for _ in 0..100 {
        agent.now += 60 * SECOND;
        assert!(agent.send(Some(7)).is_some(), "it knocks on and on");
    }
    assert_eq!(agent.guard.flagged(agent.now).collect::<Vec<_>>(), [ME.agent]);
    agent.now += QUIET;
    assert_eq!(agent.guard.flagged(agent.now).count(), 0);
    assert_eq!(agent.send(Some(7)), None);
    for _ in 0..4 {
        agent.call(7);
    }
    assert!(agent.send(Some(7)).is_some());
    assert_eq!(agent.send(None), None, "the user says something");
}

#[test]
fn the_strictest_policy_stands() {
    let mut agent = Agent::new(RunawayAction::Observe);
    let stop = Runaway { repeats: 8, ..rule(RunawayAction::Stop) };
    let mut actions = Vec::new();
    for _ in 0..9 {
        agent.turn += 2;
        let tool = Some(ToolCall { hash: 7, turn: agent.turn });
        let talk = Conversation { id: 3, tool };
        let mut seen = agent.guard.see(ME, Some(talk), agent.now);
        seen.judge(&stop);
        seen.judge(&agent.rule);
        actions.push(agent.guard.decide(&seen).map(|flag| (flag.action.as_str(), flag.fresh)));
    }
    let (observe, stop) = ("observe", "stop");
    assert_eq!(actions[3..6], [None, Some((observe, true)), Some((observe, false))]);
    assert_eq!(actions[6..], [Some((observe, false)), Some((stop, true)), Some((stop, false))]);
}

#[test]
fn who_burns_far_more_than_before_is_flagged_until_that_ends() {
    let mut agent = Agent::new(RunawayAction::Observe);
    agent.steady(60);
    let mut after = 0;
    let flag = loop {
        after += 1;
        if let Some(flag) = agent.used(30_000, 5) {
            break flag;
        }
        assert!(after < 12, "within a minute");
    };
    assert!(flag.fresh && flag.pattern == Pattern::Burn);
    // five times as much is below ten, and above half of it
    let mut agent = Agent::new(RunawayAction::Observe);
    agent.steady(60);
    for _ in 0..120 {
        assert_eq!(agent.used(5_000, 5), None);
    }
    agent.steady(1);
}

#[test]
fn growth_pauses_and_single_large_calls_are_no_runaway() {
    let mut agent = Agent::new(RunawayAction::Stop);
    // a conversation that grows: each call reads all of it again
    for call in 0..400 {
        assert_eq!(agent.used(3_000 + 400 * call, 6), None, "call {call}");
    }
    // a night between two days
    agent.now += 12 * 3600 * SECOND;
    for call in 0..60 {
        assert_eq!(agent.used(100_000, 6), None, "call {call}");
    }
    // one prompt a hundred times as long as all others
    let mut agent = Agent::new(RunawayAction::Stop);
    agent.steady(60);
    agent.now += 120 * SECOND;
    assert_eq!(agent.used(100_000, 1), None);
    // and who has no history has none to break with
    let mut agent = Agent::new(RunawayAction::Stop);
    for call in 0..100 {
        assert_eq!(agent.used(100 + 1_000 * call, 5), None, "call {call}");
    }
}

#[test]
fn who_was_stopped_for_its_burn_rests_ten_minutes() {
    let mut agent = Agent::new(RunawayAction::Stop);
    agent.steady(60);
    while agent.used(50_000, 5).is_none() {}
    for _ in 0..9 {
        agent.now += 60 * SECOND;
        assert!(agent.ask().is_some_and(|flag| !flag.fresh));
    }
    agent.now += 61 * SECOND;
    assert_eq!(agent.ask(), None);
}

#[test]
fn money_counts_where_all_of_it_is_known() {
    let ends = |expensive: Option<i64>| {
        let mut guard = Guard::default();
        let mut now = 0;
        let mut flagged = false;
        for call in 0..800 {
            now += 5 * SECOND;
            let spend = if call < 720 { Some(1_000) } else { expensive };
            guard.settled(ME, 1000, spend, now);
            let mut seen = guard.see(ME, None, now);
            seen.judge(&rule(RunawayAction::Observe));
            flagged |= guard.decide(&seen).is_some();
        }
        flagged
    };
    assert!(ends(Some(50_000)), "a model that costs fifty times as much");
    assert!(!ends(Some(2_000)));
    assert!(!ends(None), "the tokens are as many as before");
}

#[test]
fn a_million_invented_sessions_take_no_more_memory_and_hide_nobody() {
    let mut agent = Agent::new(RunawayAction::Stop);
    for _ in 0..5 {
        agent.call(7);
    }
    for invented in 0..20_000 {
        agent.guard.settled(Caller { agent: 5, session: invented }, 10, None, agent.now);
    }
    for invented in 0..1_000_000 {
        let caller = Caller { agent: 5, session: invented };
        let talk = Conversation { id: invented, tool: Some(ToolCall { hash: 1, turn: 1 }) };
        agent.guard.see(caller, Some(talk), agent.now);
        if invented % 10_000 == 0 {
            assert!(agent.send(Some(7)).is_some(), "it still calls, so it is still known");
        }
    }
    assert_eq!(agent.guard.talks.iter().count(), MOST_TALKS);
    assert_eq!(agent.guard.burns.iter().count(), MOST_BURNS);
}
