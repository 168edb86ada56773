//! Every way to ask, against every door.
use super::*;

const PROOF: &str = "a-token-of-a-test";

fn token() -> Token {
    Token::of(PROOF)
}

fn asking(headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
    }
    request
}

fn of_page(origin: &str, host: &str) -> Request<()> {
    asking(&[("origin", origin), ("host", host), ("x-tidegate-page", "1")])
}

#[test]
fn a_token_is_one_header_with_one_of_the_tokens() {
    let guard = Guard { tokens: vec![Token::of("another-of-them"), token()], ..Guard::default() };
    let shown = |value: &str| guard.knows(&asking(&[("authorization", value)]));
    assert!(shown(&format!("Bearer {PROOF}")) && shown("bearer another-of-them"));
    for wrong in ["", "Bearer", "Bearer ", PROOF, &format!("Basic {PROOF}"), "Bearer a-token-of-a"]
    {
        assert!(!shown(wrong), "{wrong}");
    }
    let right = format!("Bearer {PROOF}");
    assert!(!guard.knows(&asking(&[("authorization", &right), ("authorization", &right)])));
    assert!(!guard.knows(&asking(&[])));
    assert!(!Guard::default().knows(&asking(&[("authorization", "Bearer ")])));
}

#[test]
fn an_open_door_lets_its_own_page_act_where_that_is_on() {
    let on = Guard { actions: true, tokens: vec![token()], demanded: false };
    let off = Guard { actions: false, ..on.clone() };
    let none = Guard::default();
    for (origin, host) in [
        ("http://127.0.0.1:8081", "127.0.0.1:8081"),
        ("https://localhost:9", "LOCALHOST:9"),
        ("http://[::1]:8081", "[::1]:8081"),
    ] {
        assert_eq!(on.may_act(&of_page(origin, host)), Ok(()), "{origin}");
        assert_eq!(off.may_act(&of_page(origin, host)), Err(Unproven::NoToken), "{origin}");
        assert_eq!(none.may_act(&of_page(origin, host)), Err(Unproven::Off), "{origin}");
    }
    for (origin, host) in [
        ("http://evil.example", "127.0.0.1:8081"),
        ("http://127.0.0.1:8082", "127.0.0.1:8081"),
        ("null", "127.0.0.1:8081"),
        ("127.0.0.1:8081", "127.0.0.1:8081"),
        ("http://127.0.0.1:8081.evil.example", "127.0.0.1:8081"),
    ] {
        assert_eq!(on.may_act(&of_page(origin, host)), Err(Unproven::Page), "{origin}");
    }
}

#[test]
fn what_a_page_of_another_origin_can_send_is_not_enough() {
    let on = Guard { actions: true, ..Guard::default() };
    let (origin, host) = (("origin", "http://127.0.0.1:1"), ("host", "127.0.0.1:1"));
    let page = ("x-tidegate-page", "1");
    assert_eq!(on.may_act(&asking(&[origin, host, page])), Ok(()));
    for less in [
        &[origin, host][..],
        &[host, page],
        &[origin, page],
        &[origin, origin, host, page],
        &[origin, host, page, page],
        &[origin, host, ("x-tidegate-page", "0")],
    ] {
        assert_eq!(on.may_act(&asking(less)), Err(Unproven::Page), "{less:?}");
        assert_eq!(on.may_act_here(&asking(less)), Err(Unproven::Page), "{less:?}");
    }
}

#[test]
fn where_a_token_is_demanded_no_page_acts_without() {
    let guard = Guard { tokens: vec![token()], demanded: true, actions: true };
    let mut page = of_page("http://127.0.0.1:1", "127.0.0.1:1");
    assert_eq!(guard.may_act(&page), Err(Unproven::NoToken));
    let proof = HeaderValue::from_str(&format!("Bearer {PROOF}")).unwrap();
    page.headers_mut().insert(AUTHORIZATION, proof);
    assert_eq!((guard.may_act(&page), guard.may_act_here(&page)), (Ok(()), Ok(())));
}

#[test]
fn without_a_token_in_the_world_whoever_is_here_may_where_that_is_on_and_no_page() {
    let (none, some) = (Guard::default(), Guard { tokens: vec![token()], ..Guard::default() });
    let on = Guard { actions: true, ..Guard::default() };
    assert_eq!(none.may_act_here(&asking(&[])), Err(Unproven::Off));
    assert_eq!(on.may_act_here(&asking(&[])), Ok(()));
    assert_eq!(none.may_act(&asking(&[])), Err(Unproven::NoToken));
    assert_eq!(some.may_act_here(&asking(&[])), Err(Unproven::NoToken));
    for origin in ["null", "http://127.0.0.1:1"] {
        let page = of_page(origin, "127.0.0.1:1");
        assert_eq!(none.may_act_here(&page), Err(Unproven::Off), "{origin}");
    }
}

#[test]
fn the_page_is_told_what_it_may() {
    let told = |actions, demanded| Guard { tokens: Vec::new(), demanded, actions }.actions();
    assert_eq!([told(false, false), told(false, true)], ["off"; 2]);
    assert_eq!([told(true, false), told(true, true)], ["open", "token"]);
}
