use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn sampled(begun: Begun) -> Rc<CallTrace> {
    match begun {
        Begun::Sampled(call) => call,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_context_is_read_as_it_is_written() {
    let parent = Parent::of(&headers(&[GOOD])).unwrap();
    assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    assert_eq!((parent.span, parent.flags), (0xb7ad_6b71_6920_3331, 1));
    assert_eq!(parent::header(parent.trace, parent.span).unwrap(), GOOD);
    // level 2 has a second flag, later versions more fields
    for text in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes-later",
    ] {
        assert!(Parent::read(text.as_bytes()).is_some_and(|parent| parent.is_sampled()), "{text}");
    }
}

#[test]
fn a_context_that_breaks_the_rules_is_none() {
    for text in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
    ] {
        assert_eq!(Parent::read(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Parent::of(&headers(&[GOOD, GOOD])), None, "twice");
    assert_eq!(Parent::of(&headers(&[])), None);
}

#[test]
fn a_caller_decides_and_else_the_share() {
    let (ids, none) = (Ids::default(), headers(&[]));
    let unsampled = headers(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"]);
    for ratio in [0.0, 0.5, 1.0] {
        let sampler = Sampler::new(ratio, true);
        let call = sampled(CallTrace::begin(sampler, &ids, &headers(&[GOOD]), false));
        assert_eq!(call.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((call.parent, call.link), (0xb7ad_6b71_6920_3331, None));
        assert!(matches!(CallTrace::begin(sampler, &ids, &unsampled, false), Begun::No));
    }
    let all = Sampler::new(1.0, false);
    assert_eq!(
        sampled(CallTrace::begin(all, &ids, &unsampled, false)).parent,
        0xb7ad_6b71_6920_3331
    );
    assert!(matches!(CallTrace::begin(Sampler::new(0.0, true), &ids, &none, false), Begun::Free));
    assert_eq!(sampled(CallTrace::begin(Sampler::new(1.0, true), &ids, &none, false)).parent, 0);
}

#[test]
fn the_share_is_by_the_trace_id_as_elsewhere() {
    let half = Sampler::new(0.5, true);
    // the decision of OpenTelemetry's SDKs: the lower 63 of the id's last 8 bytes, against the share
    assert!(half.takes(0x7fff_ffff_ffff_ffff) && !half.takes(0x8000_0000_0000_0000));
    assert!(Sampler::new(1.0, true).takes(u128::MAX) && !Sampler::new(0.0, true).takes(1));
    let (ids, sampler) = (Ids::default(), Sampler::new(0.05, true));
    let taken = (0..100_000).filter(|_| sampler.takes(ids.next_trace())).count();
    assert!((4500..5500).contains(&taken), "{taken}");
}

#[test]
fn a_task_is_a_trace_of_its_own_with_a_link() {
    let (ids, sampler) = (Ids::default(), Sampler::new(0.0, true));
    let call = sampled(CallTrace::begin(sampler, &ids, &headers(&[GOOD]), true));
    let link = call.link.unwrap();
    assert_eq!(link.span, 0xb7ad_6b71_6920_3331);
    assert!(call.trace != link.trace && call.parent == 0);
    assert!(call.header().unwrap().to_str().unwrap().ends_with("-01"));
}

#[test]
fn a_state_goes_along_with_its_context_alone() {
    let (ids, all) = (Ids::default(), Sampler::new(1.0, true));
    for (parent, kept) in [(Some(GOOD), true), (None, false)] {
        let mut headers = headers(parent.as_slice());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        assert_eq!(sampled(CallTrace::begin(all, &ids, &headers, false)).state.is_some(), kept);
    }
}

#[test]
fn attempts_have_spans_of_their_own() {
    let ids = Ids::default();
    let call = sampled(CallTrace::begin(Sampler::new(1.0, true), &ids, &HeaderMap::new(), false));
    let goes = || Goes {
        upstream: "u".into(),
        provider: "openai".into(),
        model: None,
        host: Some("h".into()),
        port: 443,
    };
    let (first, header) = call.attempt(goes(), Instant::now()).unwrap();
    let (second, other) = call.attempt(goes(), Instant::now()).unwrap();
    let sent = Parent::read(header.as_bytes()).unwrap();
    assert_eq!((sent.trace, sent.span), (call.trace, call.told().attempts[0].span));
    assert_ne!(header, other);
    call.failed(first, "overloaded", 503);
    call.answers(second, 200);
    let told = call.told();
    assert!(told.attempts[0].ended.is_some() && !told.attempts[0].answers);
    assert_eq!((told.attempts[0].verdict, told.attempts[0].status), ("overloaded", 503));
    assert!(told.attempts[1].answers && told.attempts[1].ended.is_none());
    drop(told);
    assert!((2..100).filter(|_| call.attempt(goes(), Instant::now()).is_some()).count() == 30);
}
