use proptest::prelude::*;

use super::*;

const CAPS: Caps = Caps { rows: 12, each: 5, bytes: u64::MAX };

/// One thing that happens to a partition.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put { entry: u8, form: Option<u8>, direction: Option<u8>, principal: u64, until: u64 },
    Blind(u8),
    Vouch(u8),
    Remove(u8),
    RemoveOf(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let some = |most: u8| prop::option::weighted(0.8, 0..most);
    let put = (0..40_u8, some(20), some(16), 0..4_u64, 1..60_u64);
    prop_oneof![
        8 => put.prop_map(|(entry, form, direction, principal, until)| {
            Step::Put { entry, form, direction, principal, until }
        }),
        2 => (0..40_u8).prop_map(Step::Blind),
        1 => (0..40_u8).prop_map(Step::Vouch),
        2 => (0..40_u8).prop_map(Step::Remove),
        1 => (0..4_u64).prop_map(Step::RemoveOf),
        2 => (0..20_u64).prop_map(Step::Pass),
    ]
}

fn key(entry: u8) -> Key {
    Key([entry; 32])
}

fn direction(which: u8) -> Direction {
    let angle = f32::from(which) * 0.19;
    Direction::remote(&[angle.cos(), angle.sin(), 0.0]).unwrap()
}

fn row(entry: u8, form: Option<u8>, principal: u64, until: u64) -> Row {
    let author = Author {
        agent: format!("agent-{principal}").into(),
        model: "".into(),
        route: "".into(),
        upstream: "".into(),
        credential: 0,
    };
    Row {
        entry: key(entry),
        text: "x".repeat(usize::from(entry)).into(),
        form: form.map(|form| [form; 32]),
        author,
        principal,
        kept: 0,
        until,
        like_until: until / 2,
        vouched: false,
    }
}

/// The same, kept as a list with the oldest first.
#[derive(Debug, Default)]
struct Model(Vec<(Row, Option<u8>)>);

impl Model {
    fn put(&mut self, row: Row, direction: Option<u8>) {
        if row.form.is_none() && direction.is_none() {
            return;
        }
        self.0.retain(|(old, _)| {
            old.entry != row.entry && (row.form.is_none() || old.form != row.form)
        });
        while self.0.iter().filter(|(old, _)| old.principal == row.principal).count() >= CAPS.each {
            let own = self.0.iter().position(|(old, _)| old.principal == row.principal);
            self.0.remove(own.unwrap());
        }
        self.0.push((row, direction));
        while self.0.len() > CAPS.rows {
            self.0.remove(0);
        }
    }

    fn blind(&mut self, entry: u8) {
        for (_, direction) in self.0.iter_mut().filter(|(row, _)| row.entry == key(entry)) {
            *direction = None;
        }
        self.0.retain(|(row, direction)| row.form.is_some() || direction.is_some());
    }

    fn nearest(&self, which: u8, now: u64) -> Vec<Key> {
        let at = |(row, direction): &(Row, Option<u8>)| {
            direction.filter(|_| row.like_until > now).map(|at| (at.abs_diff(which), row.entry))
        };
        let mut found: Vec<_> = self.0.iter().filter_map(at).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, entry)| entry).collect()
    }
}

fn apply(rows: &mut Rows, model: &mut Model, now: &mut u64, step: Step) {
    match step {
        Step::Put { entry, form, direction: which, principal, until } => {
            let row = row(entry, form, principal, *now + until);
            rows.put(row.clone(), which.map(direction).as_ref(), &CAPS);
            model.put(row, which);
        }
        Step::Blind(entry) => {
            rows.blind(&key(entry));
            model.blind(entry);
        }
        Step::Vouch(entry) => {
            rows.vouch(&key(entry));
            let mut named = model.0.iter_mut().filter(|(row, _)| row.entry == key(entry));
            named.by_ref().for_each(|(row, _)| row.vouched = true);
        }
        Step::Remove(entry) => {
            let before = model.0.len();
            model.0.retain(|(row, _)| row.entry != key(entry));
            assert_eq!(rows.remove(&key(entry)), model.0.len() < before);
        }
        Step::RemoveOf(principal) => {
            let before = model.0.len();
            model.0.retain(|(row, _)| row.principal != principal);
            let removed = rows.remove_if(|row| row.principal == principal);
            assert_eq!(removed, before - model.0.len());
        }
        Step::Pass(time) => *now += time,
    }
}

proptest! {
    #[test]
    fn rows_are_what_a_plain_list_of_them_is(steps in prop::collection::vec(step(), 1..120)) {
        let (mut rows, mut model, mut now) = (Rows::default(), Model::default(), 0);
        for step in steps {
            apply(&mut rows, &mut model, &mut now, step);
            let mut inside: Vec<_> = rows.entries().map(|row| (row.entry, row.vouched)).collect();
            let mut wanted: Vec<_> = model.0.iter().map(|(row, _)| (row.entry, row.vouched)).collect();
            inside.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(inside, wanted);
            for form in 0..20 {
                let found = rows.by_form(&[form; 32], now).map(|row| row.entry);
                let alike = |row: &Row| row.form == Some([form; 32]) && row.until > now;
                let wanted = model.0.iter().find(|(row, _)| alike(row)).map(|(row, _)| row.entry);
                prop_assert_eq!(found, wanted);
            }
            for which in [0, 7, 15] {
                // as far apart as they say, and none that is out of the list's first eight by more
                // than a tie
                let distance = |entry: &Key| {
                    let (_, at) = model.0.iter().find(|(row, _)| row.entry == *entry).unwrap();
                    at.unwrap().abs_diff(which)
                };
                let found: Vec<_> = rows.nearest(&direction(which), now).map(|(_, row)| row.entry).collect();
                let wanted = model.nearest(which, now);
                let far: Vec<_> = found.iter().map(distance).collect();
                let far_wanted: Vec<_> = wanted.iter().take(8).map(distance).collect();
                prop_assert_eq!(far, far_wanted);
            }
        }
        rows.remove_if(|_| true);
        prop_assert_eq!(rows.bytes(), 0);
        prop_assert_eq!((rows.breadth().rows, rows.breadth().bytes), (0, 0));
    }
}

#[test]
fn the_oldest_go_where_bytes_are_short() {
    let mut rows = Rows::default();
    let caps = Caps { rows: 100, each: 100, bytes: 5 * (Row::OVERHEAD + 100) };
    for entry in 100..110 {
        rows.put(row(entry, Some(entry), 0, 9), None, &caps);
        assert!(rows.bytes() <= caps.bytes);
    }
    let kept: Vec<_> = (100..110).filter(|form| rows.by_form(&[*form; 32], 0).is_some()).collect();
    assert_eq!(kept, [106, 107, 108, 109]);
}

#[test]
fn one_that_is_larger_than_the_cap_is_alone() {
    let mut rows = Rows::default();
    let caps = Caps { rows: 100, each: 100, bytes: 10 };
    rows.put(row(1, Some(1), 0, 9), None, &caps);
    rows.put(row(2, Some(2), 0, 9), None, &caps);
    assert_eq!(rows.len(), 1);
    assert!(rows.by_form(&[2; 32], 0).is_some());
}
