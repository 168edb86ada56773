use proptest::prelude::*;

use super::*;

/// Everything that goes into the walls, owned.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    purpose: Purpose,
    /// Policy, upstream, route, target.
    names: [String; 4],
    scope: Scope,
    tenant: Vec<u8>,
    origin: Vec<u8>,
    kind: u8,
    headers: Vec<(String, Vec<u8>)>,
    question: Vec<u8>,
}

impl Owned {
    fn key(&self, secret: u8) -> Key {
        let Self { purpose, names, scope, tenant, origin, kind, headers, question } = self;
        let [policy, upstream, route, target] = names;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let walls = Walls {
            policy,
            scope: *scope,
            tenant,
            upstream,
            origin,
            route,
            target,
            kind: *kind,
            headers: &headers,
        };
        let mut naming = Keyer::new([secret; 32]).within(*purpose, &walls);
        naming.part(question);
        naming.key()
    }
}

/// Short words of few letters, so that parts could be mistaken for one another.
fn word() -> impl Strategy<Value = String> {
    "[ab]{0,3}"
}

fn owned() -> impl Strategy<Value = Owned> {
    let purpose =
        prop_oneof![Just(Purpose::Exact), Just(Purpose::Partition), Just(Purpose::Vector)];
    let names = [word(), word(), word(), word()];
    let bytes = || word().prop_map(String::into_bytes);
    let headers = proptest::collection::vec((word(), bytes()), 0..3);
    let scope = proptest::sample::select(&Scope::ALL[..]);
    (purpose, names, scope, bytes(), bytes(), 0_u8..3, headers, bytes()).prop_map(
        |(purpose, names, scope, tenant, origin, kind, headers, question)| Owned {
            purpose,
            names,
            scope,
            tenant,
            origin,
            kind,
            headers,
            question,
        },
    )
}

proptest! {
    #[test]
    fn names_are_the_same_only_where_all_walls_are(one in owned(), other in owned()) {
        prop_assert_eq!(one.key(1) == other.key(1), one == other);
        prop_assert_eq!(one.key(1), one.clone().key(1));
        prop_assert_ne!(one.key(1), one.key(2), "the secret is part of it");
    }

    #[test]
    fn each_wall_parts_by_itself(one in owned(), other in owned()) {
        let changes: [fn(&mut Owned, &Owned); 11] = [
            |to, from| to.purpose = from.purpose,
            |to, from| to.names[0].clone_from(&from.names[0]),
            |to, from| to.names[1].clone_from(&from.names[1]),
            |to, from| to.names[2].clone_from(&from.names[2]),
            |to, from| to.names[3].clone_from(&from.names[3]),
            |to, from| to.scope = from.scope,
            |to, from| to.tenant.clone_from(&from.tenant),
            |to, from| to.origin.clone_from(&from.origin),
            |to, from| to.kind = from.kind,
            |to, from| to.headers.clone_from(&from.headers),
            |to, from| to.question.clone_from(&from.question),
        ];
        for change in changes {
            let mut changed = one.clone();
            change(&mut changed, &other);
            prop_assert_eq!(changed.key(1) == one.key(1), changed == one, "{:?}", changed);
        }
    }

    #[test]
    fn a_word_moved_to_the_next_wall_makes_another_name(one in owned(), at in 0_usize..3) {
        let mut moved = one.clone();
        let word = std::mem::take(&mut moved.names[at]);
        moved.names[at + 1].insert_str(0, &word);
        prop_assert_eq!(moved.key(1) == one.key(1), word.is_empty());
    }
}

#[test]
fn forms_of_one_question_have_names_of_their_own_that_begin_alike() {
    let key = Key([0xab; 32]);
    let names: std::collections::HashSet<_> = (0..16).map(|form| key.form(form)).collect();
    assert_eq!((names.len(), key.form(0)), (16, key));
    for name in names {
        assert!(name.begins_with("abAB") && name.begins_with("") && !name.begins_with("abc"));
        assert!(!name.begins_with("x"));
    }
    assert_eq!(format!("{key:?}"), "abababababababab", "a quarter of it");
    assert_eq!(format!("{:?}", Keyer::new([7; 32])), "Keyer(…)");
}
