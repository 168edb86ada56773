use super::*;
use crate::cache::Author;
use crate::cache::alike::rows::{Caps, Row};

const CAPS: Caps = Caps { rows: 1_000, each: 1_000, bytes: u64::MAX };

fn key(number: u64) -> Key {
    Key(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn row(number: u64, bytes: usize) -> Row {
    let none: Arc<str> = "".into();
    let author = Author {
        agent: none.clone(),
        model: none.clone(),
        route: none.clone(),
        upstream: none,
        credential: 0,
    };
    Row {
        entry: key(number),
        text: "x".repeat(bytes).into(),
        form: Some(key(number).0),
        author,
        principal: 0,
        kept: 0,
        until: u64::MAX,
        like_until: 0,
        vouched: true,
    }
}

fn add(table: &Table, partition: u64, number: u64, bytes: usize) {
    let policy = "p".into();
    table.change(&key(partition), &policy, |rows| rows.put(row(number, bytes), None, &CAPS));
}

/// What is counted is what is there.
fn check(table: &Table) {
    let all = table.all();
    let rows: u64 = all.iter().map(|(_, partition)| partition.read(Rows::bytes)).sum();
    assert_eq!(table.bytes(), rows + OVERHEAD * all.len() as u64);
    let lists = table.lists.lock();
    assert_eq!(lists.by_use.len(), lists.partitions.len());
    assert!(lists.by_use.iter().all(|(used, name)| lists.partitions[name].used == *used));
}

#[test]
fn the_partition_that_was_used_longest_ago_goes() {
    let table = Table::new(10 * OVERHEAD);
    for partition in 0..4 {
        add(&table, partition, partition, 800);
        check(&table);
    }
    let policy: Arc<str> = "p".into();
    assert!(table.find(&key(0), &policy).0.is_some());
    add(&table, 4, 4, 800);
    add(&table, 5, 5, 800);
    check(&table);
    let left: Vec<_> = (0..6).filter(|name| table.peek(&key(*name)).is_some()).collect();
    let lost = table.given_up();
    assert_eq!(left.len() as u64, 6 - lost);
    assert!(lost >= 1 && left.contains(&0) && !left.contains(&1) && left.contains(&5), "{left:?}");
    assert!(table.bytes() <= table.budget());
}

#[test]
fn empty_partitions_go_when_it_is_tidied() {
    let table = Table::new(1 << 20);
    (0..10).for_each(|partition| add(&table, partition, partition, 10));
    for (_, partition) in table.all().iter().take(7) {
        table.write(partition, |rows| rows.remove_if(|_| true));
    }
    table.tidy();
    assert_eq!(table.all().len(), 3);
    check(&table);
}

#[test]
fn whoever_holds_one_that_is_gone_cannot_write_to_it() {
    let table = Table::new(1 << 20);
    add(&table, 1, 1, 10);
    let held = table.peek(&key(1)).unwrap();
    table.write(&held, |rows| rows.remove_if(|_| true));
    table.tidy();
    assert_eq!(table.write(&held, |rows| rows.put(row(2, 10), None, &CAPS)), None);
    add(&table, 1, 2, 10);
    assert_eq!(table.peek(&key(1)).unwrap().read(Rows::len), 1);
    check(&table);
}

#[test]
fn threads_that_do_all_of_it_at_once_leave_it_in_order() {
    let table = Table::new(40 * OVERHEAD);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let table = &table;
            scope.spawn(move || {
                for step in 0..3_000_u64 {
                    let name = (step * 7 + thread * 13) % 60;
                    match step % 8 {
                        0..5 => add(table, name, step % 100, (step % 500) as usize),
                        5 => {
                            if let Some(held) = table.peek(&key(name)) {
                                table.write(&held, |rows| rows.remove_if(|_| true));
                            }
                        }
                        6 => {
                            table.ban(key(step), Ban::Likeness);
                        }
                        _ => table.tidy(),
                    }
                }
            });
        }
    });
    check(&table);
    assert!(table.bytes() <= table.budget());
}
