//! The commands, with a store of their own and with one that an instance has open.
use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::app::{self, Running, Start};
use crate::config::{self, Address, Config, Listen, Loaded, LogTo, Secret};

fn new(agent: &str) -> New {
    New {
        agent: agent.to_owned(),
        team: None,
        expires: None,
        models: Vec::new(),
        routes: Vec::new(),
        policy: policy(),
    }
}

fn policy() -> Policy {
    Policy { config: None, admin: None }
}

fn at(addr: SocketAddr) -> Listen {
    Listen { at: Address::Tcp(addr), tls: None }
}

/// A policy that keeps its state in `directory`.
fn keeping(directory: &Path) -> Config {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = config::without_file();
    config.listen = vec![at(free)];
    config.admin = Some(config::Admin::at(Address::Tcp(free)));
    config.state = Some(directory.join("state"));
    config.telemetry.access_log = LogTo::Off;
    config
}

/// An instance, and the policy with the address that its admin listener got.
fn running(mut config: Config) -> (Running, Config) {
    let loaded = Loaded { config: config.clone(), files: Vec::new(), digest: String::new() };
    let (source, metrics) = (Source::default(), Arc::default());
    let running = app::start(Start { source, loaded, workers: Some(1), metrics }).unwrap();
    config.admin = running.admin.map(|addr| config::Admin::at(Address::Tcp(addr)));
    (running, config)
}

fn said(config: &Config, command: &Keys) -> Said {
    act(&Reach::from(config), command).unwrap()
}

fn list(config: &Config) -> String {
    said(config, &Keys::List(List { policy: policy() })).out
}

fn revoke(config: &Config, id: &str) -> Result<Said, Failure> {
    act(&Reach::from(config), &Keys::Revoke(Revoke { id: id.to_owned(), policy: policy() }))
}

/// Makes, lists and revokes; the store must hold what was made.
fn makes_lists_and_revokes(config: &Config) -> (NewKeySaid, String) {
    let asked = New {
        team: Some("growth".to_owned()),
        expires: Some(4_102_444_800),
        models: vec!["gpt-*".to_owned()],
        ..new("researcher")
    };
    let made = said(config, &Keys::New(asked));
    let key = made.out.trim_ascii_end().to_owned();
    assert!(key.starts_with("tgk_") && key.len() == 47 && made.out.lines().count() == 1);
    let (_, id) = made.err.split_once("stored as ").expect("stored");
    let id = id[..8].to_owned();
    assert!(!made.err.contains(&key[4..]), "once");
    let other = said(config, &Keys::New(new("writer")));
    let listed = list(config);
    assert!(listed.starts_with("ID ") && listed.lines().count() == 3, "{listed}");
    let row = row_of(&listed, &id);
    assert_eq!(row[1..3], ["researcher", "growth"]);
    assert_eq!(row[4..], ["2100-01-01T00:00:00Z", "-"]);
    assert!(!listed.contains(&key[4..]) && !listed.contains(&other.out[4..46]));
    let gone = revoke(config, &id).unwrap();
    assert_eq!((gone.out.as_str(), gone.err), ("", format!("revoked {id} of researcher\n")));
    let listed = list(config);
    assert!(row_of(&listed, &id)[5].ends_with('Z'), "{listed}");
    for unknown in ["ffffffff", "../x y", ""] {
        let Failure(code, text) = revoke(config, unknown).unwrap_err();
        assert_eq!(code, BAD_USAGE, "{text}");
    }
    (NewKeySaid(key), id)
}

struct NewKeySaid(String);

fn row_of<'l>(listed: &'l str, id: &str) -> Vec<&'l str> {
    listed.lines().find(|line| line.starts_with(id)).unwrap().split_whitespace().collect()
}

fn hmac(key: &str, pepper: &[u8]) -> Vec<u8> {
    use aws_lc_rs::hmac;
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper), key.as_bytes()).as_ref().to_vec()
}

#[test]
fn without_an_instance_the_store_is_opened_here() {
    let directory = tempfile::tempdir().unwrap();
    let config = keeping(directory.path());
    assert_eq!(list(&config).lines().count(), 1, "nothing is there");
    assert_eq!(revoke(&config, "00000000").unwrap_err().0, BAD_USAGE);
    assert!(!directory.path().join("state").exists(), "to look makes nothing");
    let (NewKeySaid(key), id) = makes_lists_and_revokes(&config);
    let store = Store::open(&directory.path().join("state")).unwrap();
    let records = store.keys().list();
    let record = records.iter().find(|record| record.id == id).unwrap();
    assert_eq!(record.hmac.0.as_slice(), hmac(&key, store.pepper().expose()));
    assert_eq!(record.models, ["gpt-*"]);
    assert!(record.revoked.is_some());
}

#[test]
fn a_running_instance_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (running, config) = running(keeping(directory.path()));
    assert!(running.state().ends_with("/state"));
    let (NewKeySaid(key), id) = makes_lists_and_revokes(&config);
    // what another store's instance would say
    let state = config.state.clone().unwrap();
    let token = std::fs::read_to_string(state.join("admin.token")).unwrap();
    std::fs::write(state.join("admin.token"), "another").unwrap();
    let Failure(code, text) = act(&Reach::from(&config), &Keys::New(new("x"))).unwrap_err();
    assert!(code == CANNOT_START && text.contains("does not know the token"), "{text}");
    std::fs::write(state.join("admin.token"), token).unwrap();
    // the policy does not know where it is, whoever asks does
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, format!("admin: 127.0.0.1:1\nstate: {}\n", state.display())).unwrap();
    let at = config.admin.as_ref().map(|admin| admin.at.clone());
    let told = |admin| Policy { config: Some(file.clone()), admin };
    let listed = |policy: Policy| act(&policy.reach().unwrap(), &Keys::List(List { policy }));
    assert_eq!(listed(told(None)).unwrap_err().0, CANNOT_START);
    assert!(listed(told(Some(Admin(at)))).unwrap().out.contains(&id));
    let off = Config { admin: None, ..config.clone() };
    let Failure(code, text) = act(&Reach::from(&off), &Keys::New(new("x"))).unwrap_err();
    assert!(code == CANNOT_START && text.contains("stop it first"), "{text}");
    running.stop();
    let store = Store::open(&state).unwrap();
    let records = store.keys().list();
    assert_eq!(records.len(), 2);
    let record = records.iter().find(|record| record.id == id).unwrap();
    assert_eq!(record.hmac.0.as_slice(), hmac(&key, store.pepper().expose()));
}

#[test]
fn without_a_store_the_line_for_the_policy_file_is_said() {
    let mut config = config::without_file();
    let asked = || New {
        team: Some("growth".to_owned()),
        expires: Some(4_102_444_800),
        models: vec!["gpt-*".to_owned(), "o3".to_owned()],
        routes: vec!["open\"ai".to_owned()],
        ..new("researcher")
    };
    let made = said(&config, &Keys::New(asked()));
    let key = made.out.trim_ascii_end();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let hex = |bytes: &[u8]| String::from(KeyHmac(bytes.try_into().unwrap()));
    let line = |name: &str, hash: &str| {
        format!(
            "agents:\n  keys:\n    - {{ agent: \"researcher\", team: \"growth\", {name}: \"{hash}\", \
             expires: \"2100-01-01T00:00:00Z\", models: [\"gpt-*\", \"o3\"], \
             routes: [\"open\\\"ai\"] }}\n"
        )
    };
    assert!(made.err.ends_with(&line("sha256", &hex(sha256.as_ref()))), "{}", made.err);
    config.agents.pepper = Some(Secret::new("a pepper"));
    let made = said(&config, &Keys::New(asked()));
    let mac = hmac(made.out.trim_ascii_end(), b"a pepper");
    assert!(made.err.ends_with(&line("hmac", &hex(&mac))), "{}", made.err);
    assert!(!made.err.contains("a pepper"));
    let Failure(code, text) =
        act(&Reach::from(&config), &Keys::List(List { policy: policy() })).unwrap_err();
    assert!(code == BAD_USAGE && text.contains("agents.keys"), "{text}");
}

#[test]
fn what_makes_no_sense_makes_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let config = keeping(directory.path());
    for wrong in [New { team: Some("a b".to_owned()), ..new("a") }, new("")] {
        let Failure(code, _) = act(&Reach::from(&config), &Keys::New(wrong)).unwrap_err();
        assert_eq!(code, BAD_USAGE);
    }
    assert!(!directory.path().join("state").exists());
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = Config { state: Some(file.clone()), ..config };
    let Failure(code, text) = act(&Reach::from(&config), &Keys::New(new("a"))).unwrap_err();
    assert!(code == NO_STORE && text.contains(&file.display().to_string()), "{text}");
}

#[test]
fn a_store_that_another_has_open_is_no_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = keeping(directory.path());
    let state = config.state.clone().unwrap();
    let store = Store::open(&state).unwrap();
    let loaded = Loaded { config: config.clone(), files: Vec::new(), digest: String::new() };
    let (source, metrics) = (Source::default(), Arc::default());
    let start = Start { source, loaded, workers: Some(1), metrics };
    let error = app::start(start).err().unwrap();
    assert!(matches!(error, app::StartError::Store(StoreError::InUse { .. })), "{error:?}");
    assert!(error.to_string().contains(&state.display().to_string()), "{error}");
    // without an instance there is nobody to ask
    let Failure(code, text) = act(&Reach::from(&config), &Keys::New(new("x"))).unwrap_err();
    assert!(code == CANNOT_START && text.contains("say with --admin"), "{text}");
    assert!(store.close(PATIENCE));
    let (running, config) = running(config);
    assert_eq!(list(&config).lines().count(), 1);
    running.stop();
}

#[test]
fn times_to_come_are_read() {
    let now = 1_800_000_000;
    assert_eq!(expiry_after(now, "30d"), Ok(now + 30 * 86_400));
    assert_eq!(expiry_after(now, "2027-02-01"), Ok(1_801_440_000));
    assert_eq!(expiry_after(now, "2027-02-01T12:00:00+02:00"), Ok(1_801_440_000 + 36_000));
    for wrong in ["", "30", "2020-01-01", "0s", "tomorrow", "2027-02-30", "9999999d"] {
        assert!(expiry_after(now, wrong).is_err(), "{wrong}");
    }
}
