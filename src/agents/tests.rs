use std::net::IpAddr;
use std::time::Instant;

use super::*;
use crate::config::{AgentKey, KeyHash};
use crate::identity::Class;
use crate::store::NewKey;

const NOW: i64 = 1_800_000_000;

/// A policy under test, with one key of an agent `researcher`, and one that names no agent.
struct House {
    policy: config::Agents,
    shared: Arc<Shared>,
    key: NewKey,
    open_key: NewKey,
}

fn key(of: &NewKey, agent: Option<&str>, team: Option<&str>) -> AgentKey {
    AgentKey {
        hash: KeyHash::Sha256(of.sha256()),
        agent: agent.map(Name::from),
        team: team.map(Name::from),
        expires: None,
        models: Vec::new(),
        routes: Vec::new(),
    }
}

impl House {
    fn new() -> Self {
        let [own, open_key] = [(); 2].map(|()| NewKey::generate().unwrap());
        let keys = vec![key(&own, Some("researcher"), Some("growth")), key(&open_key, None, None)];
        let policy = config::Agents {
            team_header: Some(HeaderName::from_static("x-team")),
            keys,
            ..config::Agents::default()
        };
        Self { policy, shared: Arc::new(Shared::default()), key: own, open_key }
    }

    fn try_ask(&self, seen: &Seen, lines: &[(&str, &str)]) -> Result<Identified, Unknown> {
        Ladder::new(&self.policy, &self.shared).identify(seen, &headers(lines), None, || NOW)
    }

    #[track_caller]
    fn ask(&self, seen: &Seen, lines: &[(&str, &str)]) -> Identity {
        self.try_ask(seen, lines).unwrap().identity
    }

    /// The agent and the rung that named it.
    #[track_caller]
    fn named(&self, seen: &Seen, lines: &[(&str, &str)], agent: &str, rung: Rung) {
        let identity = self.ask(seen, lines);
        assert_eq!((&*identity.agent, identity.rung), (agent, rung), "{lines:?}");
    }
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn tcp(ip: &str) -> Seen {
    Seen::new(Origin::Tcp(ip.parse().unwrap()), std::iter::empty())
}

fn cert(san: &str) -> Seen {
    Seen::new(Origin::Tcp("10.0.0.7".parse().unwrap()), [san].into_iter())
}

fn unix(uid: u32, process: Option<&str>) -> Seen {
    let process = process.map(Name::from);
    Seen::new(Origin::Unix { uid, gid: 50, pid: Some(7), process }, std::iter::empty())
}

fn peer(uid: Option<u32>, process: Option<&str>, agent: Option<&str>) -> Peer {
    let [process, agent] = [process, agent].map(|name| name.map(Name::from));
    Peer { uid, gid: Some(50), process, agent, team: Some(Name::from("local")) }
}

#[test]
fn every_rung_names_an_agent_and_the_first_wins() {
    let mut house = House::new();
    let known = |san: &str| Certificate { san: san.into(), agent: None, team: Some("mesh".into()) };
    house.policy.certificates = vec![known("*.agents.test")];
    house.policy.peers = vec![peer(Some(1000), None, Some("builder"))];
    let secret = house.key.expose().to_owned();
    let credential = ("authorization", "Bearer sk-theirs");
    let fingerprint = house.shared.hash_key.fingerprint(b"sk-theirs");
    let session = ("x-claude-code-session-id", "s-1");
    let (header, key) = (("x-agent-id", "scout"), ("x-tidegate-key", &*secret));
    let seen = cert("a.agents.test");

    house.named(&seen, &[credential, session, header, key], "researcher", Rung::Key);
    house.named(&seen, &[credential, session, header], "a.agents.test", Rung::Mtls);
    house.named(&unix(1000, None), &[credential, session, header], "builder", Rung::Peer);
    let plain = tcp("10.0.0.7");
    house.named(&plain, &[credential, session, header], "scout", Rung::Header);
    house.named(&plain, &[credential, session], "s-1", Rung::Session);
    house.named(&plain, &[credential], &format!("key:{fingerprint}"), Rung::Credential);
    house.named(&plain, &[], "10.0.0.7", Rung::Address);
    house.named(&tcp("::ffff:10.0.0.7"), &[], "10.0.0.7", Rung::Address);
    house.named(&unix(7, None), &[], "uid:7", Rung::Address);

    house.policy.identify = vec![Rung::Session, Rung::Key];
    house.named(&seen, &[key, session], "s-1", Rung::Session);
    house.named(&seen, &[key], "researcher", Rung::Key);
    house.named(&seen, &[credential], "anonymous", Rung::Address);
}

#[test]
fn teams_come_from_the_proof_then_from_the_header() {
    let mut house = House::new();
    house.policy.peers = vec![peer(Some(1000), None, None)];
    let [own, open] = [&house.key, &house.open_key].map(|key| key.expose().to_owned());
    let team = |seen: &Seen, lines: &[(&str, &str)]| house.ask(seen, lines).team;
    let (plain, told) = (tcp("10.0.0.7"), ("x-team", "blue"));
    assert_eq!(team(&plain, &[told, ("x-api-key", &own)]).as_deref(), Some("growth"));
    assert_eq!(team(&plain, &[told, ("x-api-key", &open)]).as_deref(), Some("blue"));
    assert_eq!(team(&unix(1000, None), &[told]).as_deref(), Some("local"));
    assert_eq!(team(&plain, &[told]).as_deref(), Some("blue"));
    assert_eq!(team(&plain, &[]), None);
    assert_eq!(team(&plain, &[("x-team", "growth")]), None, "that one needs its key");
}

#[test]
fn spoofed_headers_do_not_override_what_is_proven() {
    let house = House::new();
    let secret = house.key.expose().to_owned();
    let lines = [
        ("x-agent-id", "victim"),
        ("x-team", "victims"),
        ("x-claude-code-agent-id", "victim"),
        ("x-claude-code-session-id", "victim"),
        ("x-api-key", &secret),
    ];
    let identity = house.ask(&tcp("10.0.0.7"), &lines);
    assert_eq!((&*identity.agent, identity.rung), ("researcher", Rung::Key));
    assert_eq!(identity.team.as_deref(), Some("growth"));
    assert_eq!(identity.session.as_deref(), Some("victim"), "a session is only a label");
    assert_eq!(identity.grant.unwrap().id, Name::from(house.key.id()));
}

#[test]
fn a_proven_name_cannot_be_taken_by_a_word() {
    let mut house = House::new();
    house.policy.peers = vec![peer(Some(1000), None, Some("builder")), peer(Some(7), None, None)];
    let plain = tcp("10.0.0.7");
    for name in ["researcher", "builder"] {
        house.named(&plain, &[("x-agent-id", name)], "10.0.0.7", Rung::Address);
        house.named(&plain, &[("session-id", name)], "10.0.0.7", Rung::Address);
        // a process may choose its name, too
        house.named(&unix(7, Some(name)), &[], "uid:7", Rung::Peer);
    }
    house.named(&unix(7, Some("claude")), &[], "claude", Rung::Peer);
    // a gateway that is trusted speaks for others
    house.policy.trust = vec![Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 }];
    house.named(&plain, &[("x-agent-id", "researcher")], "researcher", Rung::Header);
    house.named(&plain, &[("session-id", "researcher")], "10.0.0.7", Rung::Address);
}

#[test]
fn the_headers_count_from_trusted_peers_alone() {
    let mut house = House::new();
    house.policy.trust = vec![Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 }];
    let lines = [("x-agent-id", "scout"), ("x-team", "blue")];
    for (ip, trusted) in [("10.9.9.9", true), ("::ffff:10.1.1.1", true), ("11.0.0.1", false)] {
        let identity = house.ask(&tcp(ip), &lines);
        assert_eq!(identity.rung == Rung::Header && &*identity.agent == "scout", trusted, "{ip}");
        assert_eq!(identity.team.is_some(), trusted);
    }
    assert_eq!(house.ask(&unix(1000, None), &lines).rung, Rung::Address);
}

#[test]
fn a_peer_is_known_by_all_that_its_rule_asks() {
    let mut house = House::new();
    house.policy.access = Access::Known;
    let rung = |house: &House, seen: &Seen| house.try_ask(seen, &[]).ok().map(|i| i.identity.rung);
    for (rule, seen, known) in [
        (peer(Some(1000), None, None), unix(1000, None), true),
        (peer(Some(1000), None, None), unix(1001, None), false),
        (peer(None, None, None), unix(1, None), true),
        (Peer { gid: Some(51), ..peer(None, None, None) }, unix(1, None), false),
        (peer(None, Some("claude*"), None), unix(1, Some("claude-code")), true),
        (peer(None, Some("claude*"), None), unix(1, Some("codex")), false),
        (peer(None, Some("*"), None), unix(1, None), false),
        (peer(Some(1000), None, None), tcp("127.0.0.1"), false),
    ] {
        house.policy.peers = vec![rule];
        assert_eq!(rung(&house, &seen), known.then_some(Rung::Peer), "{seen:?}");
    }
}

#[test]
fn known_callers_only_means_proven_ones() {
    let mut house = House::new();
    house.policy.access = Access::Known;
    let plain = tcp("10.0.0.7");
    let own = house.key.expose().to_owned();
    let open = house.open_key.expose().to_owned();
    let words = [
        ("x-agent-id", "scout"),
        ("x-claude-code-agent-id", "a"),
        ("authorization", "Bearer sk-theirs"),
    ];
    assert_eq!(house.try_ask(&plain, &words).err(), Some(Unknown::NoKey));
    assert_eq!(house.try_ask(&plain, &[]).err(), Some(Unknown::NoKey));
    // any certificate of the CA is not enough: the policy must know its name
    assert_eq!(house.try_ask(&cert("a.test"), &[]).err(), Some(Unknown::NoKey));
    house.named(&plain, &[("x-api-key", &own)], "researcher", Rung::Key);
    // a key that names nobody lets in, and a word may say who it is
    house.named(&plain, &[("x-api-key", &open), words[0]], "scout", Rung::Header);
    // a rung that is not on the ladder proves nothing
    house.policy.identify = vec![Rung::Header, Rung::Address];
    assert_eq!(house.try_ask(&plain, &[("x-api-key", &own)]).err(), Some(Unknown::NoKey));
}

#[test]
fn a_key_of_ours_that_is_not_valid_is_refused_even_where_everybody_may_call() {
    let mut house = House::new();
    let expired = NewKey::generate().unwrap();
    let late = AgentKey { expires: Some(NOW - 1), ..key(&expired, Some("late"), None) };
    house.policy.keys.push(late);
    let plain = tcp("10.0.0.7");
    for line in [
        ("x-tidegate-key", "tgk_unknown"),
        ("x-tidegate-key", "anything"),
        ("authorization", "Bearer tgk_unknown"),
        ("x-api-key", "tgk_unknown"),
        ("x-goog-api-key", "tgk_unknown"),
        ("api-key", "tgk_unknown"),
    ] {
        assert_eq!(house.try_ask(&plain, &[line]).err(), Some(Unknown::UnknownKey), "{line:?}");
    }
    let ladder = Ladder::new(&house.policy, &house.shared);
    let by_query = ladder.identify(&plain, &HeaderMap::new(), Some("key=tgk_unknown"), || NOW);
    assert_eq!(by_query.err(), Some(Unknown::UnknownKey));
    let refused = house.try_ask(&plain, &[("x-api-key", expired.expose())]).unwrap_err();
    assert_eq!((refused.reason(), refused.key()), ("key_expired", Some(&Name::from(expired.id()))));
    assert!(!refused.to_string().contains("tgk_"));
    // even where keys are not on the ladder: it must not go on to the backend
    house.policy.identify = vec![Rung::Address];
    assert!(house.try_ask(&plain, &[("api-key", "tgk_unknown")]).is_err());
    house.named(&plain, &[("api-key", "sk-theirs")], "10.0.0.7", Rung::Address);
}

#[test]
fn only_the_tidegate_key_is_stripped() {
    let house = House::new();
    let secret = house.key.expose();
    let mut sent = headers(&[("authorization", "Bearer sk-theirs"), ("x-api-key", secret)]);
    let ladder = Ladder::new(&house.policy, &house.shared);
    let plain = tcp("10.0.0.7");
    let found = ladder.identify(&plain, &sent, None, || NOW).unwrap();
    found.ours.strip(&mut sent);
    assert_eq!(sent.keys().collect::<Vec<_>>(), ["authorization"]);
    let query = format!("key={secret}&alt=sse");
    let found = ladder.identify(&plain, &HeaderMap::new(), Some(&query), || NOW).unwrap();
    assert_eq!(&*found.identity.agent, "researcher");
    assert_eq!(found.ours.strip_query(&query).as_deref(), Some("alt=sse"));
}

#[test]
fn a_key_is_revoked_under_a_running_policy() {
    let shared = Arc::new(Shared::new(Some(&[3; 32])));
    let ladder = Ladder::new(&config::Agents::default(), &shared);
    let key = NewKey::generate().unwrap();
    let sent = headers(&[("x-api-key", key.expose())]);
    let ask = || ladder.identify(&Seen::default(), &sent, None, || NOW).map(|found| found.identity);
    assert_eq!(ask().err(), Some(Unknown::UnknownKey));
    let stored = StoredKey {
        id: Name::from(key.id()),
        hmac: key.hmac(&[3; 32]),
        agent: Some(Name::from("kept")),
        team: None,
        expires: Some(NOW + 1),
        models: Vec::new(),
        routes: Vec::new(),
        revoked: false,
    };
    shared.replace_stored(vec![stored.clone()]);
    assert_eq!(&*ask().unwrap().agent, "kept");
    shared.replace_stored(vec![StoredKey { revoked: true, ..stored }]);
    assert_eq!(ask().err(), Some(Unknown::Revoked(Name::from(key.id()))));
}

#[test]
fn the_facts_of_a_sub_agent_stay_apart() {
    let house = House::new();
    let identity = house.ask(
        &tcp("10.0.0.7"),
        &[
            ("x-claude-code-session-id", "s-1"),
            ("x-claude-code-agent-id", "a-2"),
            ("x-claude-code-parent-agent-id", "a-1"),
            ("x-claude-code-request-class", "auxiliary"),
            ("x-api-key", "sk-theirs"),
        ],
    );
    assert_eq!((&*identity.agent, identity.rung), ("a-2", Rung::Session));
    assert_eq!(identity.parent.as_deref(), Some("a-1"));
    assert_eq!(identity.session.as_deref(), Some("s-1"));
    assert_eq!((identity.class, identity.team), (Class::Batch, None));
    assert_eq!(identity.credential, Some(house.shared.hash_key.fingerprint(b"sk-theirs")));
    assert!(identity.grant.is_none());
}

/// A name costs one allocation, the first time; the names of the policy none.
#[test]
fn names_are_shared_between_calls() {
    let house = House::new();
    let secret = house.key.expose().to_owned();
    let ladder = Ladder::new(&house.policy, &house.shared);
    for lines in [
        &[("x-agent-id", "scout"), ("session-id", "s")][..],
        &[("x-claude-code-agent-id", "a"), ("x-claude-code-parent-agent-id", "b")],
        &[("authorization", "Bearer sk-theirs"), ("x-team", "blue")],
        &[("x-api-key", &*secret), ("session-id", "s")],
        &[],
    ] {
        let [one, two] = [(); 2].map(|()| {
            ladder.identify(&tcp("10.0.0.7"), &headers(lines), None, || NOW).unwrap().identity
        });
        let same = |a: &Option<Name>, b: &Option<Name>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        assert!(Arc::ptr_eq(&one.agent, &two.agent));
        assert!(same(&one.session, &two.session) && same(&one.parent, &two.parent));
        assert!(same(&one.team, &two.team));
    }
}

#[test]
fn invented_names_end_in_one_and_proven_ones_do_not() {
    let mut house = House::new();
    let all: Vec<_> = (0..1_500).map(|_| NewKey::generate().unwrap()).collect();
    let of = |(number, of): (usize, &NewKey)| key(of, Some(&format!("agent-{number}")), None);
    house.policy.keys = all.iter().enumerate().map(of).collect();
    let ladder = Ladder::new(&house.policy, &house.shared);
    let seen = tcp("10.0.0.7");
    for number in 0..5_000 {
        let name = format!("invented-{number}");
        let sent = headers(&[("x-agent-id", &name), ("session-id", &name), ("x-team", &name)]);
        let identity = ladder.identify(&seen, &sent, None, || NOW).unwrap().identity;
        let want = if number < names::MOST { &*name } else { "other" };
        assert_eq!(&*identity.agent, want);
        assert_eq!(identity.session.as_deref(), Some(want));
        assert_eq!(identity.team.as_deref(), Some(want));
    }
    for (number, key) in all.iter().enumerate() {
        let sent = headers(&[("x-api-key", key.expose())]);
        let identity = ladder.identify(&seen, &sent, None, || NOW).unwrap().identity;
        assert_eq!(*identity.agent, format!("agent-{number}"));
    }
    assert_eq!(house.shared.names().len(NameKind::Agent), names::MOST);
}

/// Run by hand, optimised: `cargo test --profile quick --lib agents::tests::cost -- --ignored
/// --nocapture`. It is to stay below a microsecond.
#[test]
#[ignore = "a measurement"]
fn cost_of_one_identification() {
    let house = House::new();
    let secret = house.key.expose().to_owned();
    let kept = NewKey::generate().unwrap();
    let shared = Arc::new(Shared::new(Some(&[3; 32])));
    let stored = |of: &NewKey| StoredKey {
        id: Name::from(of.id()),
        hmac: of.hmac(&[3; 32]),
        agent: Some(Name::from("kept")),
        team: None,
        expires: None,
        models: Vec::new(),
        routes: Vec::new(),
        revoked: false,
    };
    let usual = [
        ("host", "127.0.0.1:8080"),
        ("content-type", "application/json"),
        ("content-length", "4711"),
        ("user-agent", "anthropic-sdk"),
        ("accept", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one,two,three"),
        ("x-app", "cli"),
        ("x-claude-code-session-id", "0190a5c0-7b7e-7cc3-98c4-dc0c0c07398f"),
        ("x-claude-code-agent-id", "a-1"),
    ];
    let with = |line| headers(&[&usual[..], &[line]].concat());
    let ladder = Ladder::new(&house.policy, &shared);
    let nobody = Ladder::new(&config::Agents::default(), &Arc::new(Shared::default()));
    let seen = Seen::new(Origin::Tcp(IpAddr::from([10, 0, 0, 7])), std::iter::empty());
    let time = |what: &str, ladder: &Ladder, sent: &HeaderMap| {
        const CALLS: u32 = 10_000;
        let mut rounds: Vec<_> = (0..101)
            .map(|_| {
                let begun = Instant::now();
                for _ in 0..CALLS {
                    let found = ladder.identify(std::hint::black_box(&seen), sent, None, || NOW);
                    std::hint::black_box(&found).as_ref().unwrap();
                }
                begun.elapsed() / CALLS
            })
            .collect();
        rounds.sort();
        println!("{what}: {:?} a call (median of 101 rounds), {:?} at best", rounds[50], rounds[0]);
    };
    time("no keys at all", &nobody, &with(("x-api-key", "sk-ant-api03-theirs")));
    time("a key of the policy", &ladder, &with(("x-api-key", &secret)));
    shared.replace_stored(vec![stored(&kept)]);
    time("a key of the store, and of the policy", &ladder, &with(("x-api-key", &secret)));
    time("a key of the store", &ladder, &with(("x-api-key", kept.expose())));
    time("a credential for the backend", &ladder, &with(("x-api-key", "sk-ant-api03-theirs")));
}
