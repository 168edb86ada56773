use super::*;
use crate::cache::key::{Keyer, Purpose, Walls};
use crate::cache::spaces::Spaces;
use crate::config::{self, Scope};
use crate::wire::embed::batch;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn walls(tenant: &[u8]) -> Naming {
    let walls = Walls {
        policy: "p",
        scope: Scope::Credential,
        tenant,
        upstream: "u",
        origin: b"o",
        route: "r",
        target: "/v1/embeddings",
        kind: 0,
        headers: &[],
    };
    Keyer::new([7; 32]).within(Purpose::Vector, &walls)
}

fn named(body: &str, tenant: &[u8]) -> (Vectors, Key) {
    let batch = batch(Kind::Embeddings, body.as_bytes()).unwrap();
    Vectors::new(Kind::Embeddings, &batch, walls(tenant))
}

fn space() -> Arc<Space> {
    let spaces = Spaces::new(None);
    spaces.apply(&[(Arc::from("p"), &config::Cache::default())]);
    spaces.space("p").unwrap()
}

fn author() -> Author {
    let name: Arc<str> = Arc::from("x");
    Author {
        agent: Arc::clone(&name),
        model: Arc::clone(&name),
        route: Arc::clone(&name),
        upstream: name,
        credential: 0,
    }
}

fn take(vectors: &mut Vectors, space: &Space, asked: &[usize], answer: &str, max: u64) -> bool {
    let author = author();
    let keeping = Keeping {
        space,
        content_type: Some(b"application/json"[..].into()),
        ttl: Duration::from_mins(1),
        max_entry: max,
        author: &author,
        cost: &|usage| usage.input.cast_signed() * 5,
    };
    vectors.take(asked, answer.as_bytes(), &keeping)
}

fn answer(numbers: &[u32], tokens: u64) -> String {
    let item = |(index, number)| {
        format!(r#"{{"object":"embedding","index":{index},"embedding":[{number}]}}"#)
    };
    let items: Vec<_> = numbers.iter().enumerate().map(item).collect();
    let usage = format!(r#"{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}"#);
    format!(r#"{{"object":"list","data":[{}],"model":"m","usage":{usage}}}"#, items.join(","))
}

#[test]
fn names_are_those_of_inputs_and_of_tenants() {
    let keys = |body: &str, tenant: &[u8]| {
        let (vectors, whole) = named(body, tenant);
        (vectors.inputs.iter().map(|input| input.key).collect::<Vec<_>>(), whole)
    };
    let (two, whole) = keys(r#"{"input":["a","b"]}"#, b"t");
    let (one, single) = keys(r#"{"input":"b"}"#, b"t");
    assert_eq!(two[1], one[0]);
    assert!(whole != single && !two.contains(&whole) && one[0] != single);
    assert_ne!(two, keys(r#"{"input":["a","b"]}"#, b"u").0);
    assert_ne!(two, keys(r#"{"input":["a","b"],"dimensions":2}"#, b"t").0);
    assert_ne!(whole, keys(r#"{"input":["b","a"]}"#, b"t").1);
    assert_ne!(whole, keys(r#"{"input":["a","b","b"]}"#, b"t").1);
}

#[test]
fn what_is_known_is_not_asked_for_and_all_together_is_the_answer() {
    let space = space();
    let (mut vectors, _) = named(r#"{"input":["aaa","b"]}"#, b"t");
    vectors.look(&space, NOW, |_| true);
    assert_eq!((vectors.missing(), vectors.any_known()), (vec![0, 1], false));
    assert!(vectors.answer(0, NOW).is_none());
    assert!(take(&mut vectors, &space, &[0, 1], &answer(&[1, 2], 10), 4096));
    let now = SystemTime::now();
    let (mut next, _) = named(r#"{"input":["b","c","aaa","c"]}"#, b"t");
    next.look(&space, now, |_| true);
    assert_eq!((next.missing(), next.any_known()), (vec![1], true));
    // of 6 + 4 + 6 + 4 bytes, `c` is 4, and asked for once
    assert_eq!(next.asked_share(20), 4);
    assert!(take(&mut next, &space, &[1], &answer(&[3], 2), 4096));
    let entry = next.answer(1, now).unwrap();
    // 10 tokens for 6 and 4 bytes are 6 and 4
    assert_eq!(String::from_utf8_lossy(&entry.body), answer(&[2, 3, 1, 3], 4 + 2 + 6 + 2));
    assert_eq!(entry.usage.map(|usage| usage.input), Some(14));
    assert_eq!(entry.cost_nano, Some(70));
    assert_eq!(next.spared(&[1]).input, 4 + 6 + 2);
}

#[test]
fn what_is_not_the_answer_is_not_kept() {
    let space = space();
    let (mut vectors, _) = named(r#"{"input":["a","b"]}"#, b"t");
    assert!(!take(&mut vectors, &space, &[0, 1], &answer(&[1], 3), 4096));
    assert!(!take(&mut vectors, &space, &[0], &answer(&[1, 2], 3), 4096));
    vectors.look(&space, NOW, |_| true);
    assert_eq!(vectors.missing(), [0, 1]);
    // too heavy to be kept, and good for this answer all the same
    assert!(take(&mut vectors, &space, &[0, 1], &answer(&[1, 2], 3), 10));
    assert!(vectors.answer(0, SystemTime::now()).is_some());
    vectors.forget();
    vectors.look(&space, SystemTime::now(), |_| true);
    assert_eq!(vectors.missing(), [0, 1]);
}

#[test]
fn an_answer_is_as_old_as_its_oldest_vector() {
    let space = space();
    let (mut vectors, _) = named(r#"{"input":["a","b"]}"#, b"t");
    assert!(take(&mut vectors, &space, &[0, 1], &answer(&[1, 2], 3), 4096));
    let now = SystemTime::now();
    let (early, late) = (now - Duration::from_secs(50), now - Duration::from_secs(5));
    for (input, stored) in vectors.inputs.iter_mut().zip([late, early]) {
        let entry = input.entry.take().unwrap();
        input.entry = Some(Arc::new(Entry { stored, ..Entry::clone(&entry) }));
    }
    let whole = vectors.answer(0, now).unwrap();
    assert_eq!(whole.age(now), Duration::from_secs(50));
    assert_eq!(whole.left(now), Some(Duration::from_secs(10)));
    // one that may not be given is asked for
    vectors.forget();
    vectors.look(&space, now, |_| false);
    assert_eq!(vectors.missing(), [0, 1]);
}
