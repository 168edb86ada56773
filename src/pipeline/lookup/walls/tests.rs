//! Callers for whose names there is no place share limits, and nothing else.
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::agents::names::{MOST, NameKind};
use crate::agents::seen::Origin;
use crate::agents::{Known, Ladder, Seen, Shared};
use crate::config::{Access, Peer};
use crate::identity::Rung;

const NOW: i64 = 1_800_000_000;

/// The one ladder over a table with places, and over one without any.
struct House {
    empty: Ladder,
    full: Ladder,
}

/// A connection and its headers.
type Caller = (Seen, HeaderMap);

impl House {
    fn new() -> Self {
        let any = Peer { uid: None, gid: Some(50), process: None, agent: None, team: None };
        let named = Peer { uid: Some(1), gid: None, agent: Some("builder".into()), ..any.clone() };
        let policy = config::Agents {
            access: Access::Open,
            team_header: Some(HeaderName::from_static("x-team")),
            peers: vec![named, any],
            ..config::Agents::default()
        };
        let [empty, full] = [(); 2].map(|()| Arc::new(Shared::new(Some(&[7; 32]))));
        for number in 0..MOST {
            for kind in [NameKind::Agent, NameKind::Team] {
                full.names().share(kind, &format!("invented-{number}"));
            }
        }
        Self { empty: Ladder::new(&policy, &empty), full: Ladder::new(&policy, &full) }
    }
}

fn ask(ladder: &Ladder, (seen, headers): &Caller) -> Identity {
    ladder.identify(seen, headers, None, || NOW).unwrap().identity
}

fn unix(uid: u32, process: Option<&str>) -> Caller {
    let process = process.map(Arc::from);
    let origin = Origin::Unix { uid, gid: 50, pid: Some(7), process };
    (Seen::new(origin, std::iter::empty()), HeaderMap::new())
}

fn tcp(ip: &str, lines: &[(&'static str, &'static str)]) -> Caller {
    let headers = lines
        .iter()
        .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let origin = Origin::Tcp(ip.parse().unwrap());
    (Seen::new(origin, std::iter::empty()), headers.collect())
}

/// Two callers of each rung whose names come from outside.
fn pairs() -> [(Rung, [Caller; 2]); 6] {
    // as long ones, only their hashes differ
    let long = |end: &str| {
        let mut caller = tcp("10.0.0.7", &[]);
        let name = "x".repeat(200) + end;
        caller.1.insert("x-agent-id", name.parse().unwrap());
        caller
    };
    [
        (Rung::Peer, [unix(1000, Some("claude")), unix(1000, Some("codex"))]),
        (Rung::Peer, [unix(1000, None), unix(1001, None)]),
        (Rung::Header, ["a", "b"].map(|name| tcp("10.0.0.7", &[("x-agent-id", name)]))),
        (Rung::Header, ["a", "b"].map(long)),
        (Rung::Session, ["a", "b"].map(|name| tcp("10.0.0.7", &[("session-id", name)]))),
        (Rung::Address, ["10.0.0.7", "10.0.0.8"].map(|ip| tcp(ip, &[]))),
    ]
}

#[test]
fn callers_beyond_the_table_of_names_stand_behind_their_own_walls() {
    let house = House::new();
    for (rung, callers) in pairs() {
        let who = callers.each_ref().map(|caller| ask(&house.full, caller));
        let names = who.each_ref().map(|who| (&*who.agent, who.rung));
        assert_eq!(names, [("other", rung); 2], "both are shown as one");
        let [one, two] = [0, 1].map(|at| tenant(Scope::Agent, &who[at], &callers[at].1, None));
        assert_ne!(one, two, "{rung:?} {callers:?}");
    }
}

#[test]
fn a_caller_has_the_same_wall_whether_there_is_a_place_for_its_name_or_not() {
    let house = House::new();
    for (rung, callers) in pairs() {
        for caller in callers {
            let who = [&house.empty, &house.full].map(|ladder| ask(ladder, &caller));
            assert_ne!(who[0].agent, who[1].agent, "the table of one is full");
            assert_eq!(who[0].unlisted, None);
            for scope in [Scope::Agent, Scope::Team] {
                let [one, two] = who.each_ref().map(|who| tenant(scope, who, &caller.1, None));
                assert_eq!(one, two, "{rung:?} {caller:?}");
            }
        }
    }
}

#[test]
fn teams_beyond_the_table_do_not_share_answers() {
    let house = House::new();
    let of = |team| tcp("10.0.0.7", &[("x-agent-id", "a"), ("x-team", team), ("x-api-key", "k")]);
    let callers = ["blue", "green"].map(of);
    let walls = |ladder: &Ladder| {
        callers.each_ref().map(|caller| tenant(Scope::Team, &ask(ladder, caller), &caller.1, None))
    };
    let full = walls(&house.full);
    assert_ne!(full[0], full[1]);
    assert_eq!(full, walls(&house.empty));
}

/// Else it would be somebody else as soon as the table is full.
#[test]
fn a_proven_name_that_is_only_said_is_refused_by_a_full_table_as_well() {
    let house = House::new();
    for header in ["x-agent-id", "session-id"] {
        let caller = tcp("10.0.0.7", &[(header, "builder")]);
        let who = [&house.empty, &house.full].map(|ladder| ask(ladder, &caller));
        assert_eq!(who.map(|who| who.rung), [Rung::Address; 2], "{header}");
    }
}

/// A background task is run when its caller is gone.
#[test]
fn what_is_run_later_is_run_behind_the_same_walls() {
    let house = House::new();
    for (rung, callers) in pairs() {
        for caller in callers {
            let who = ask(&house.full, &caller);
            let known = Known {
                agent: who.whole_agent(),
                rung: who.rung,
                parent: None,
                session: None,
                team: who.whole_team(),
                team_proven: who.team_proven,
                class: who.class,
                credential: who.credential.map(|print| print.0),
                key: None,
            };
            for ladder in [&house.empty, &house.full] {
                let again = ladder.again(&known, NOW).unwrap();
                let [then, now] =
                    [&who, &again].map(|who| tenant(Scope::Agent, who, &caller.1, None));
                assert_eq!(then, now, "{rung:?} {caller:?}");
            }
        }
    }
}
