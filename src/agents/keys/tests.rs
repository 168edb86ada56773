use std::cell::Cell;

use super::*;
use crate::store::NewKey;

thread_local! {
    /// Comparisons of whole hashes.
    pub static COMPARED: Cell<usize> = const { Cell::new(0) };
}

const NOW: i64 = 1_800_000_000;
const PEPPER: [u8; 32] = [9; 32];

fn policy_key(hash: KeyHash, agent: &str) -> AgentKey {
    let agent = Some(Name::from(agent));
    AgentKey { hash, agent, team: None, expires: None, models: Vec::new(), routes: Vec::new() }
}

fn stored(key: &NewKey, agent: &str) -> StoredKey {
    StoredKey {
        id: Name::from(key.id()),
        hmac: key.hmac(&PEPPER),
        agent: Some(Name::from(agent)),
        team: Some(Name::from("team")),
        expires: None,
        models: vec![Arc::from("gpt-*")],
        routes: Vec::new(),
        revoked: false,
    }
}

fn ring(keys: &[AgentKey], pepper: Option<&str>) -> (Keyring, Arc<Shared>) {
    let shared = Arc::new(Shared::new(Some(&PEPPER)));
    let pepper = pepper.map(Secret::new);
    (Keyring::new(keys, pepper.as_ref(), &shared), shared)
}

fn judge(ring: &Keyring, credentials: &[(Place, &str)]) -> Result<Judged, Unknown> {
    let values: Vec<_> =
        credentials.iter().map(|(place, text)| (*place, text.parse().unwrap())).collect();
    let mut presented = Presented::default();
    for (place, value) in &values {
        presented.header(*place, value);
    }
    ring.judge(&presented, || NOW)
}

fn agent(ring: &Keyring, credential: &str) -> Result<Option<Name>, Unknown> {
    let judged = judge(ring, &[(Place::XApiKey, credential)])?;
    Ok(judged.key.and_then(|key| key.agent.clone()))
}

#[test]
fn keys_are_known_by_each_kind_of_hash() {
    let [plain, peppered, kept] = [(); 3].map(|()| NewKey::generate().unwrap());
    let keys = [
        policy_key(KeyHash::Sha256(plain.sha256()), "plain"),
        policy_key(KeyHash::Hmac(peppered.hmac(b"the pepper")), "peppered"),
    ];
    let (ring, shared) = ring(&keys, Some("the pepper"));
    shared.replace_stored(vec![stored(&kept, "kept")]);
    for (key, want) in [(&plain, "plain"), (&peppered, "peppered"), (&kept, "kept")] {
        assert_eq!(agent(&ring, key.expose()), Ok(Some(Name::from(want))));
    }
    let judged = judge(&ring, &[(Place::XApiKey, kept.expose())]).unwrap();
    let grant = Arc::clone(&judged.key.unwrap().grant);
    assert_eq!((&grant.id, &*grant.models[0]), (&Name::from(kept.id()), "gpt-*"));
    let judged = judge(&ring, &[(Place::XApiKey, plain.expose())]).unwrap();
    assert_eq!(judged.key.unwrap().grant.id, Name::from(plain.id()));
    assert!(ring.names("kept") && ring.names("team") && ring.names("plain") && !ring.names("x"));
}

/// The same key under another pepper, or as the other kind of hash, is no key.
#[test]
fn a_hash_counts_for_its_own_kind_alone() {
    let key = NewKey::generate().unwrap();
    for hash in [KeyHash::Hmac(key.hmac(b"another")), KeyHash::Hmac(key.sha256())] {
        let (ring, _) = ring(&[policy_key(hash, "a")], Some("the pepper"));
        assert_eq!(agent(&ring, key.expose()), Err(Unknown::UnknownKey));
    }
    let (ring, shared) = ring(&[], None);
    shared.replace_stored(vec![StoredKey { hmac: key.sha256(), ..stored(&key, "a") }]);
    assert_eq!(agent(&ring, key.expose()), Err(Unknown::UnknownKey));
}

/// A policy may make any secret a key: then it needs no form of ours.
#[test]
fn a_key_may_have_any_form() {
    let (ring, _) = ring(&[policy_key(KeyHash::Sha256(sha256(b"test")), "a")], None);
    assert_eq!(agent(&ring, "test"), Ok(Some(Name::from("a"))));
    assert_eq!(agent(&ring, "tests"), Ok(None), "a credential for the backend");
}

#[test]
fn a_key_that_is_known_and_one_that_is_not_take_the_same_steps() {
    let key = NewKey::generate().unwrap();
    let (ring, shared) = ring(&[policy_key(KeyHash::Sha256(key.sha256()), "a")], None);
    shared.replace_stored(vec![stored(&NewKey::generate().unwrap(), "b")]);
    let steps = |credential: &str| {
        let before = COMPARED.get();
        let _ = agent(&ring, credential);
        COMPARED.get() - before
    };
    let mut near = key.expose().to_owned();
    near.pop();
    assert_eq!(steps(key.expose()), 2);
    assert_eq!(steps(&near), 2);
    assert_eq!(steps("sk-something-else"), 2);
    let hash = sha256(near.as_bytes());
    assert!(ring.by_sha256.find(&shared.hash_key, &hash).is_none());
    // the decoy itself opens nothing
    let decoy = Arc::clone(&ring.by_sha256.decoy);
    assert!(ring.by_sha256.find(&shared.hash_key, &decoy.hash).is_none_or(|key| key.revoked));
}

#[test]
fn an_expired_key_is_told_apart() {
    let key = NewKey::generate().unwrap();
    for (expires, want) in [
        (NOW + 1, Ok(Some(Name::from("a")))),
        (NOW, Err(Unknown::Expired(Name::from(key.id())))),
        (NOW - 1, Err(Unknown::Expired(Name::from(key.id())))),
    ] {
        let policy = policy_key(KeyHash::Sha256(key.sha256()), "a");
        let (ring, _) = ring(&[AgentKey { expires: Some(expires), ..policy }], None);
        assert_eq!(agent(&ring, key.expose()), want);
    }
}

#[test]
fn a_key_counts_and_is_revoked_at_once() {
    let key = NewKey::generate().unwrap();
    let (ring, shared) = ring(&[], None);
    let credential = key.expose();
    assert_eq!(agent(&ring, credential), Err(Unknown::UnknownKey));
    shared.replace_stored(vec![stored(&key, "a")]);
    assert_eq!(agent(&ring, credential), Ok(Some(Name::from("a"))));
    let revoked = StoredKey { revoked: true, ..stored(&key, "a") };
    let gone = Err(Unknown::Revoked(Name::from(key.id())));
    // whatever stands beside it
    for all in [
        vec![revoked.clone()],
        vec![revoked.clone(), stored(&key, "b")],
        vec![stored(&key, "b"), revoked.clone()],
    ] {
        shared.replace_stored(all);
        assert_eq!(agent(&ring, credential), gone);
        assert!(!ring.names("a"));
    }
    shared.replace_stored(Vec::new());
    assert_eq!(agent(&ring, credential), Err(Unknown::UnknownKey));
}

#[test]
fn a_key_of_the_policy_is_revoked_by_the_store() {
    let key = NewKey::generate().unwrap();
    let (ring, shared) = ring(&[policy_key(KeyHash::Sha256(key.sha256()), "a")], None);
    shared.replace_stored(vec![StoredKey { revoked: true, ..stored(&key, "a") }]);
    assert_eq!(agent(&ring, key.expose()), Err(Unknown::Revoked(Name::from(key.id()))));
}

#[test]
fn every_credential_of_a_request_is_judged() {
    use Place::{Authorization, TidegateKey, XApiKey};
    let [one, two] = [(); 2].map(|()| NewKey::generate().unwrap());
    let keys = [one.sha256(), two.sha256()].map(KeyHash::Sha256);
    let keys = [policy_key(keys[0], "one"), policy_key(keys[1], "two")];
    let (ring, shared) = ring(&keys, None);
    let (one, two) = (one.expose(), two.expose());
    let bearer = format!("Bearer {two}");

    let judged = judge(&ring, &[(XApiKey, "sk-theirs"), (TidegateKey, one)]).unwrap();
    assert!(judged.ours.has(TidegateKey) && !judged.ours.has(XApiKey));
    assert_eq!(judged.key.unwrap().agent.as_deref(), Some("one"));
    assert_eq!(judged.credential, Some(shared.hash_key.fingerprint(one.as_bytes())));

    // both are keys: neither may reach a backend
    let judged = judge(&ring, &[(Authorization, &bearer), (TidegateKey, one)]).unwrap();
    assert!(judged.ours.has(TidegateKey) && judged.ours.has(Authorization));
    assert_eq!(judged.key.unwrap().agent.as_deref(), Some("one"));

    let foreign = judge(&ring, &[(XApiKey, "sk-b"), (Authorization, "Bearer sk-a")]).unwrap();
    assert!(foreign.key.is_none() && foreign.ours.is_empty());
    assert_eq!(foreign.credential, Some(shared.hash_key.fingerprint(b"sk-a")));
    assert_eq!(judge(&ring, &[]).unwrap().credential, None);

    for refused in [
        &[(XApiKey, one), (Authorization, "Bearer tgk_unknown")][..],
        &[(TidegateKey, "anything")],
        &[(TidegateKey, one), (TidegateKey, one)],
    ] {
        assert_eq!(judge(&ring, refused).err(), Some(Unknown::UnknownKey));
    }
}

#[test]
fn a_stored_key_does_not_show_its_hash() {
    let key = NewKey::generate().unwrap();
    let kept = StoredKey { hmac: [0xab; 32], ..stored(&key, "a") };
    let shown = format!("{kept:?}");
    assert!(shown.contains(&*key.id()) && !shown.contains("171") && !shown.contains("ab, "));
}
