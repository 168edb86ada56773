//! The hub against a model that keeps everything: any order of joins, reads, pushes and ends.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use proptest::prelude::*;

use super::state::WINDOW;
use super::*;

type Made = (Lead<u32, u32>, Seat<u32, u32>);

const KEY: Key = Key([7; 32]);

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn hubs() -> Arc<Hubs<u32, u32>> {
    Arc::default()
}

fn begin(hubs: &Arc<Hubs<u32, u32>>, keep: usize) -> Made {
    match hubs.claim(KEY, keep) {
        Claim::Lead(lead, seat) => (lead, seat),
        Claim::Join(_) => panic!("somebody was there"),
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn next(seat: &Seat<u32, u32>) -> Poll<Option<Result<Bytes, Gone<u32>>>> {
    seat.poll_piece(&mut noop())
}

/// Everything that is there for it.
fn drain(seat: &Seat<u32, u32>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(Ok(piece))) = next(seat) {
        all.extend_from_slice(&piece);
    }
    all
}

fn bytes(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

#[test]
fn who_joins_late_gets_everything_and_who_is_last_ends_it() {
    let hubs = hubs();
    let (lead, first) = begin(&hubs, 100);
    lead.push(Bytes::from_static(b"a"), 0);
    let Claim::Join(second) = hubs.claim(KEY, 100) else { panic!("one was there") };
    drop(first);
    assert!(lead.poll_deserted(&mut noop()).is_pending());
    lead.push(Bytes::from_static(b"b"), 1);
    assert_eq!(drain(&second), b"ab");
    assert!(next(&second).is_pending());
    drop(second);
    assert!(lead.poll_deserted(&mut noop()).is_ready());
    assert!(hubs.join(&KEY).is_none(), "it is given up");
    drop(lead);
    assert!(hubs.is_empty());
}

#[test]
fn a_deserted_hub_takes_nobody_in_and_another_takes_its_place() {
    let hubs = hubs();
    let (old, seat) = begin(&hubs, 100);
    old.push(bytes(3), 0);
    drop(seat);
    // before the writer has looked
    let (new, seat) = begin(&hubs, 100);
    new.push(Bytes::from_static(b"new"), 0);
    drop(old);
    assert_eq!(hubs.len(), 1, "the old one takes out itself alone");
    let other = hubs.join(&KEY).expect("the new one");
    assert_eq!((drain(&seat), drain(&other)), (b"new".to_vec(), b"new".to_vec()));
}

#[test]
fn near_its_end_a_deserted_hub_takes_others_in_until_it_is_given_up() {
    let hubs = hubs();
    let (lead, seat) = begin(&hubs, 100);
    lead.push(Bytes::from_static(b"all"), 0);
    lead.ending(true);
    assert_eq!(drain(&seat), b"all");
    assert!(seat.caught_up() && !seat.ended());
    drop(seat);
    assert!(lead.poll_deserted(&mut noop()).is_ready());
    let late = hubs.join(&KEY).expect("it goes on");
    assert!(lead.poll_deserted(&mut noop()).is_pending() && !late.caught_up());
    // its end has not come: who is there stays, and with the last it is over
    lead.ending(false);
    assert!(lead.poll_deserted(&mut noop()).is_pending());
    drop(late);
    assert!(lead.poll_deserted(&mut noop()).is_ready());
    assert!(hubs.join(&KEY).is_none());
}

#[test]
fn desertion_wakes_the_writer() {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let cx = &mut Context::from_waker(&waker);
    let hubs = hubs();
    let (lead, first) = begin(&hubs, 100);
    let second = hubs.join(&KEY).unwrap();
    assert!(lead.poll_deserted(cx).is_pending());
    drop(first);
    assert!(lead.poll_deserted(cx).is_pending());
    bell.rung();
    drop(second);
    assert_eq!(bell.rung(), 1);
    assert!(lead.poll_deserted(cx).is_ready());
}

#[test]
fn readers_are_woken_by_the_head_by_pieces_and_by_the_end() {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let cx = &mut Context::from_waker(&waker);
    let hubs = hubs();
    let (lead, seat) = begin(&hubs, 100);
    assert!(seat.poll_head(cx).is_pending());
    lead.head(Arc::new(200));
    assert_eq!(bell.rung(), 1);
    assert!(matches!(seat.poll_head(cx), Poll::Ready(Ok(head)) if *head == 200));
    assert!(seat.poll_piece(cx).is_pending());
    lead.push(bytes(1), 0);
    assert_eq!(bell.rung(), 1);
    assert!(matches!(seat.poll_piece(cx), Poll::Ready(Some(Ok(_)))));
    assert!(seat.poll_piece(cx).is_pending() && !seat.ended());
    lead.complete();
    assert_eq!(bell.rung(), 1);
    assert!(matches!(seat.poll_piece(cx), Poll::Ready(None)) && seat.ended());
    // and by a writer that vanishes
    let (lead, seat) = {
        drop((lead, seat));
        begin(&hubs, 100)
    };
    assert!(seat.poll_head(cx).is_pending());
    drop(lead);
    assert_eq!(bell.rung(), 1);
    assert!(matches!(seat.poll_head(cx), Poll::Ready(Err(Gone::Lost))));
}

#[test]
fn a_failure_is_told_to_all_behind_what_had_come() {
    let hubs = hubs();
    let (lead, first) = begin(&hubs, 100);
    lead.push(Bytes::from_static(b"half"), 0);
    let second = hubs.join(&KEY).unwrap();
    lead.fail(7);
    // what comes behind an end is nothing
    lead.push(bytes(9), 0);
    lead.complete();
    assert!(hubs.join(&KEY).is_none(), "nobody joins a failure");
    for seat in [&first, &second] {
        assert_eq!(drain(seat), b"half");
        for _ in 0..2 {
            assert!(matches!(next(seat), Poll::Ready(Some(Err(Gone::Failed(why)))) if *why == 7));
        }
        assert!(!seat.ended() && seat.rest().is_none());
    }
}

#[test]
fn past_the_bound_nobody_joins_and_the_writer_waits_for_the_fastest() {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let cx = &mut Context::from_waker(&waker);
    let hubs = hubs();
    let (lead, fast) = begin(&hubs, 100 << 10);
    let slow = hubs.join(&KEY).unwrap();
    let piece = bytes(50 << 10);
    for _ in 0..2 {
        assert!(lead.poll_room(cx).is_ready());
        lead.push(piece.clone(), 0);
    }
    assert!(hubs.join(&KEY).is_some() && lead.recorded().is_some(), "just at the bound");
    lead.push(piece.clone(), 0);
    assert!(hubs.join(&KEY).is_none() && lead.recorded().is_none());
    assert!(lead.poll_room(cx).is_pending(), "nobody has read");
    for read in 1..=3 {
        assert!(matches!(next(&fast), Poll::Ready(Some(Ok(_)))));
        let room = lead.poll_room(cx).is_ready();
        assert_eq!(room, read >= 2, "{read}");
        assert!(bell.rung() > 0 || room);
    }
    // the slow one has lost nothing yet, and the writer goes at the pace of the other
    let (mut pushed, mut lost) = (3, false);
    while !lost {
        assert!(lead.poll_room(cx).is_ready());
        lead.push(piece.clone(), 0);
        pushed += 1;
        assert!(
            matches!(next(&fast), Poll::Ready(Some(Ok(_)))),
            "the fast one is held up by nobody"
        );
        lost = slow.hub.state.lock().fell_behind(slow.at);
        assert!(pushed < 100);
    }
    assert!(
        pushed * piece.len() > WINDOW && pushed * piece.len() < WINDOW + (200 << 10),
        "{pushed}"
    );
    assert!(matches!(next(&slow), Poll::Ready(Some(Err(Gone::Lost)))));
    assert!(!slow.ended() && slow.rest().is_none());
    lead.complete();
    assert!(fast.ended() && !slow.ended());
    drop(fast);
    drop(slow);
    assert!(lead.poll_deserted(cx).is_ready());
}

#[test]
fn what_nobody_needs_any_more_is_let_go() {
    let hubs = hubs();
    let (lead, seat) = begin(&hubs, 10);
    for _ in 0..50 {
        lead.push(bytes(100 << 10), 0);
        drain(&seat);
        assert_eq!(lead.hub.state.lock().held(), 0);
    }
    let slow = {
        drop((lead, seat));
        begin(&hubs, 10)
    };
    // the only reader is never too slow: the writer waits for it
    slow.0.push(bytes(3 << 20), 0);
    slow.0.push(bytes(3 << 20), 0);
    assert!(slow.0.poll_room(&mut noop()).is_pending());
    assert_eq!(drain(&slow.1).len(), 6 << 20);
}

#[test]
fn the_rest_is_given_at_once_only_where_it_is_one_piece() {
    let hubs = hubs();
    let (lead, seat) = begin(&hubs, 100);
    assert!(seat.rest().is_none());
    lead.push(Bytes::from_static(b"ab"), 0);
    lead.push(Bytes::from_static(b"cd"), 0);
    lead.complete();
    let late = hubs.join(&KEY).expect("it is there until the writer has gone");
    assert!(late.rest().is_none(), "two pieces");
    assert!(matches!(next(&late), Poll::Ready(Some(Ok(_)))));
    assert_eq!(late.rest().as_deref(), Some(&b"cd"[..]));
    assert!(late.ended() && matches!(next(&late), Poll::Ready(None)));
    assert_eq!(late.rest().as_deref(), Some(&b""[..]));
    assert_eq!(drain(&seat), b"abcd");
}

#[test]
fn a_call_alone_is_found_by_nobody_and_takes_out_nobody() {
    let hubs = hubs();
    let (lead, _seat) = begin(&hubs, 100);
    let (alone, seat) = hubs.alone(KEY, 100);
    lead.push(Bytes::from_static(b"shared"), 0);
    alone.push(Bytes::from_static(b"alone"), 0);
    assert_eq!(drain(&hubs.join(&KEY).unwrap()), b"shared");
    assert_eq!(drain(&seat), b"alone");
    drop((alone, seat));
    assert!(hubs.join(&KEY).is_some());
}

/// What may happen to a hub. Readers are named by a number, modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Join,
    Leave(usize),
    Read(usize),
    Drain(usize),
    Rest(usize),
    Push(usize),
    Room,
    Deserted,
    Close,
    Complete,
    Fail,
    Vanish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Join),
        2 => any::<usize>().prop_map(Step::Leave),
        10 => any::<usize>().prop_map(Step::Read),
        4 => any::<usize>().prop_map(Step::Drain),
        1 => any::<usize>().prop_map(Step::Rest),
        12 => (0_usize..40_000).prop_map(Step::Push),
        // larger than the window, now and then
        1 => Just(Step::Push(WINDOW + 1)),
        4 => Just(Step::Room),
        3 => Just(Step::Deserted),
        1 => Just(Step::Complete),
        1 => Just(Step::Fail),
        1 => Just(Step::Vanish),
        1 => Just(Step::Close),
    ]
}

/// A reader, and how much the model says it has read.
struct Read {
    seat: Seat<u32, u32>,
    pieces: usize,
    lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    Whole,
    Failed,
    Lost,
}

/// Everything that was ever written, and who has read how much of it.
struct Model {
    hubs: Arc<Hubs<u32, u32>>,
    lead: Option<Lead<u32, u32>>,
    readers: Vec<Read>,
    pieces: Vec<Bytes>,
    keep: usize,
    closed: bool,
    deserted: bool,
    over: Over,
}

impl Model {
    fn new(keep: usize) -> Self {
        let hubs = hubs();
        let (lead, seat) = begin(&hubs, keep);
        let readers = vec![Read { seat, pieces: 0, lost: false }];
        let (pieces, over) = (Vec::new(), Over::No);
        Self { hubs, lead: Some(lead), readers, pieces, keep, closed: false, deserted: false, over }
    }

    fn len(&self, from: usize) -> usize {
        self.pieces[from..].iter().map(Bytes::len).sum()
    }

    fn whole(&self) -> bool {
        self.len(0) <= self.keep
    }

    fn fastest(&self) -> usize {
        let kept = self.readers.iter().filter(|reader| !reader.lost);
        kept.map(|reader| reader.pieces).max().unwrap_or(0)
    }

    /// Does it with one of the readers, if there is one.
    fn one(&mut self, n: usize, what: impl FnOnce(&mut Self, usize)) {
        if let Some(at) = n.checked_rem(self.readers.len()) {
            what(self, at);
        }
    }

    /// One piece for that reader; whether it got one.
    fn read(&mut self, at: usize) -> bool {
        let (total, over) = (self.pieces.len(), self.over);
        let far = {
            let fastest = self.fastest();
            let read = self.readers[at].pieces;
            self.len(read).saturating_sub(self.len(fastest)) > WINDOW
        };
        let reader = &mut self.readers[at];
        match next(&reader.seat) {
            Poll::Ready(Some(Ok(piece))) => {
                assert!(!reader.lost, "who was given up gets no more");
                assert_eq!(piece, self.pieces[reader.pieces], "the next piece, to the byte");
                reader.pieces += 1;
                return true;
            }
            Poll::Ready(None) => assert!(reader.pieces == total && over == Over::Whole),
            Poll::Ready(Some(Err(Gone::Failed(_)))) => {
                assert!(reader.pieces == total && over == Over::Failed);
            }
            Poll::Ready(Some(Err(Gone::Lost))) => {
                let vanished = reader.pieces == total && over == Over::Lost;
                assert!(reader.lost || vanished || far, "given up without need");
                reader.lost |= !vanished;
            }
            Poll::Pending => assert!(reader.pieces == total && over == Over::No && !reader.lost),
        }
        false
    }

    fn join(&mut self) {
        let may = self.lead.is_some()
            && self.whole()
            && !self.closed
            && !matches!(self.over, Over::Failed | Over::Lost)
            && !self.deserted;
        let seat = self.hubs.join(&KEY);
        assert_eq!(seat.is_some(), may, "joined");
        self.readers.extend(seat.map(|seat| Read { seat, pieces: 0, lost: false }));
    }

    fn leave(&mut self, at: usize) {
        self.readers.swap_remove(at);
        self.deserted |= self.readers.is_empty();
    }

    fn push(&mut self, len: usize) {
        let Some(lead) = &self.lead else { return };
        let piece = Bytes::from(vec![self.pieces.len() as u8; len]);
        lead.push(piece.clone(), 0);
        if self.over != Over::No || len == 0 {
            return;
        }
        self.pieces.push(piece);
        // the rule, said once more in the plain: past the bound, and more than the window behind
        if !self.whole() {
            let fastest = self.fastest();
            let near = self.len(fastest);
            for at in 0..self.readers.len() {
                let read = self.readers[at].pieces;
                // but for a piece that is itself what makes it too much
                let behind = self.len((read + 1).min(self.pieces.len())).saturating_sub(near);
                if read < fastest && behind > WINDOW {
                    self.readers[at].lost = true;
                }
            }
        }
    }

    fn room(&self) {
        let Some(lead) = &self.lead else { return };
        let ahead = self.len(self.fastest());
        let nobody = self.readers.iter().all(|reader| reader.lost);
        let room = self.whole() || ahead <= 64 << 10 || nobody;
        assert_eq!(lead.poll_room(&mut noop()).is_ready(), room, "{ahead} ahead");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join => self.join(),
            Step::Leave(n) => self.one(n, Self::leave),
            Step::Read(n) => self.one(n, |model, at| {
                model.read(at);
            }),
            Step::Drain(n) => self.one(n, |model, at| while model.read(at) {}),
            Step::Rest(n) => self.one(n, Self::rest),
            Step::Push(len) => self.push(len),
            Step::Room => self.room(),
            Step::Deserted => {
                if let Some(lead) = &self.lead {
                    let deserted = lead.poll_deserted(&mut noop()).is_ready();
                    assert_eq!(deserted, self.readers.iter().all(|reader| reader.lost));
                }
            }
            Step::Close => {
                if let Some(lead) = &self.lead {
                    lead.close();
                }
                self.closed = true;
            }
            Step::Complete => self.end(Over::Whole),
            Step::Fail => self.end(Over::Failed),
            Step::Vanish => self.end(Over::Lost),
        }
        self.holds();
    }

    fn rest(&mut self, at: usize) {
        let total = self.pieces.len();
        let reader = &mut self.readers[at];
        let rest = reader.seat.rest();
        let may = self.over == Over::Whole && !reader.lost && reader.pieces + 1 >= total;
        assert_eq!(rest.is_some(), may);
        if let Some(rest) = rest {
            let wanted = self.pieces.get(reader.pieces).cloned().unwrap_or_default();
            assert_eq!(rest, wanted);
            reader.pieces = total;
        }
    }

    fn end(&mut self, how: Over) {
        let Some(lead) = &self.lead else { return };
        match how {
            Over::Whole => lead.complete(),
            Over::Failed => lead.fail(1),
            _ => self.lead = None,
        }
        if self.over == Over::No {
            self.over = how;
        }
    }

    /// What holds after every step.
    fn holds(&self) {
        for reader in &self.readers {
            let read_all = reader.pieces == self.pieces.len();
            let ended = self.over == Over::Whole && !reader.lost && read_all;
            assert_eq!(reader.seat.ended(), ended);
        }
        let Some(lead) = &self.lead else {
            assert!(self.hubs.is_empty());
            return;
        };
        let recorded = lead.recorded();
        assert_eq!(recorded.is_some(), self.whole());
        if let Some(Recorded { body, frames }) = recorded {
            assert_eq!(body, self.pieces.concat());
            assert!(
                frames.len() == self.pieces.len() || (frames.is_empty() && self.pieces.len() <= 1)
            );
        }
        let held = lead.hub.state.lock().held();
        let slowest = self.readers.iter().filter(|reader| !reader.lost).map(|reader| reader.pieces);
        let needed = if self.whole() {
            self.len(0)
        } else {
            slowest.min().map_or(0, |slowest| self.len(slowest))
        };
        assert_eq!(held, needed, "no more is held than somebody needs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_who_stays_gets_exactly_what_was_written(
        keep in prop_oneof![Just(0_usize), 0_usize..300_000, Just(usize::MAX)],
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let mut model = Model::new(keep);
        for step in &steps {
            model.step(step);
        }
        // in the end all who are left read to the end
        model.end(Over::Whole);
        for at in 0..model.readers.len() {
            while model.read(at) {}
        }
        let (total, over) = (model.pieces.len(), model.over);
        for reader in &model.readers {
            prop_assert!(reader.lost || reader.pieces == total);
            prop_assert_eq!(reader.seat.ended(), !reader.lost && over == Over::Whole);
        }
        drop(model.readers);
        drop(model.lead);
        prop_assert!(model.hubs.is_empty());
    }
}

#[test]
fn on_two_threads_nobody_sleeps_for_ever_and_bytes_are_right() {
    /// Waits as a task does: until it is woken.
    fn block<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            if let Poll::Ready(out) = poll(&mut Context::from_waker(&waker)) {
                return out;
            }
            std::thread::park();
        }
    }
    for (round, keep) in (0..40).map(|n| (n, if n % 2 == 0 { 1000 } else { 64 << 20 })) {
        let hubs = hubs();
        let (lead, first) = begin(&hubs, keep);
        let seats: Vec<_> = std::iter::once(first)
            .chain((0..4).map(|_| hubs.join(&KEY).expect("it has only begun")))
            .collect();
        let expected: Vec<u8> = (0..400_u32).flat_map(|n| vec![n as u8; 2000]).collect();
        std::thread::scope(|scope| {
            for (n, seat) in seats.into_iter().enumerate() {
                let expected = &expected;
                scope.spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        match block(|cx| seat.poll_piece(cx)) {
                            Some(Ok(piece)) => got.extend_from_slice(&piece),
                            Some(Err(gone)) => panic!("{round}/{n}: {gone:?}"),
                            None => break,
                        }
                        if n == 4 && got.len() > 100_000 {
                            return;
                        }
                    }
                    assert!(got == *expected, "{round}/{n}: {} bytes", got.len());
                });
            }
            scope.spawn(move || {
                for n in 0..400_u32 {
                    block(|cx| lead.poll_room(cx));
                    lead.push(Bytes::from(vec![n as u8; 2000]), 0);
                }
                lead.complete();
            });
        });
        assert!(hubs.is_empty());
    }
}

#[test]
fn who_was_given_up_holds_no_call() {
    let hubs = hubs();
    let (lead, slow) = begin(&hubs, 10);
    let Some(fast) = hubs.join(&KEY) else { panic!("it can be joined") };
    while !lead.hub.state.lock().fell_behind(slow.at) {
        lead.push(bytes(WINDOW / 4), 0);
        drain(&fast);
    }
    let bell = Arc::<Bell>::default();
    let waker = Waker::from(Arc::clone(&bell));
    let mut cx = Context::from_waker(&waker);
    assert!(lead.poll_deserted(&mut cx).is_pending());
    drop(fast);
    assert_eq!(bell.rung(), 1);
    // its client takes nothing, so it cannot see that it is lost
    assert!(lead.poll_deserted(&mut cx).is_ready());
    drop(slow);
}

fn counted() -> (Arc<Hubs<u32, u32>>, Arc<Pressure>) {
    let pressure = Arc::new(Pressure::new(1 << 20));
    (Arc::new(Hubs::new(Arc::clone(&pressure))), pressure)
}

#[test]
fn what_is_held_counts_until_the_last_has_gone() {
    let (hubs, pressure) = counted();
    let (lead, seat) = begin(&hubs, 1 << 20);
    assert_eq!(lead.push(bytes(10_000), 0), 10_000);
    assert_eq!(lead.push(bytes(10_000), 0), 20_000);
    assert!((20_000..25_000).contains(&pressure.used()));
    lead.complete();
    drop(lead);
    assert_eq!(drain(&seat).len(), 20_000);
    assert!(pressure.used() >= 20_000, "its seat has it still");
    drop(seat);
    assert_eq!(pressure.used(), 0);
}

#[test]
fn under_pressure_nothing_is_kept_and_nobody_joins() {
    let (hubs, pressure) = counted();
    let (lead, seat) = begin(&hubs, 1 << 20);
    lead.push(bytes(50_000), 0);
    let other = pressure.hold(800 << 10);
    assert!(hubs.join(&KEY).is_some(), "nothing has changed for it yet");
    assert_eq!(drain(&seat).len(), 50_000);
    lead.push(bytes(1), 1);
    assert!(hubs.join(&KEY).is_none());
    assert_eq!(drain(&seat).len(), 1);
    assert_eq!(pressure.used(), other.bytes());
    lead.complete();
    assert_eq!(lead.recorded(), None);
}

#[test]
fn what_is_discarded_is_free_at_once_and_who_had_read_it_all_hears_why() {
    let (hubs, pressure) = counted();
    let (lead, fast) = begin(&hubs, 1 << 20);
    let slow = hubs.join(&KEY).unwrap();
    lead.push(bytes(30_000), 0);
    lead.push(bytes(30_000), 0);
    drain(&fast);
    assert!(matches!(next(&slow), Poll::Ready(Some(Ok(_)))));
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert!(fast.poll_piece(&mut Context::from_waker(&waker)).is_pending());
    lead.discard(7);
    assert_eq!((pressure.used(), bell.rung()), (0, 1));
    assert!(matches!(next(&fast), Poll::Ready(Some(Err(Gone::Failed(why)))) if *why == 7));
    assert!(matches!(next(&slow), Poll::Ready(Some(Err(Gone::Lost)))));
    assert!(!slow.caught_up() && !slow.ended() && slow.rest().is_none());
    assert!(hubs.join(&KEY).is_none() && lead.recorded().is_none());
    drop((slow, fast));
    assert!(lead.poll_deserted(&mut noop()).is_ready());
}

/// So many bytes.
struct Bytewise {
    left: u64,
    at: u64,
}

impl Had for Bytewise {
    fn begins_at(&mut self, gone: u64) -> bool {
        self.at = gone;
        gone <= self.left
    }

    fn of(&mut self, piece: &[u8]) -> usize {
        let of = usize::try_from(self.left - self.at).unwrap().min(piece.len());
        self.at += of as u64;
        of
    }
}

fn had(left: u64) -> Bytewise {
    Bytewise { left, at: 0 }
}

#[test]
fn who_comes_back_reads_on_where_it_was() {
    let hubs = hubs();
    let (lead, seat) = hubs.alone(KEY, 100);
    let log = lead.log();
    for piece in ["ab", "c", "defg"] {
        lead.push(Bytes::from(piece), 0);
    }
    for offset in 0..=7_u64 {
        let back = log.resume(9, &mut had(offset)).unwrap();
        assert_eq!(drain(&back), b"abcdefg"[offset as usize..], "{offset}");
    }
    let mut ahead = had(9);
    let early = log.resume(9, &mut ahead).unwrap();
    assert!(next(&early).is_pending() && ahead.at == 7, "the rest is passed over as it comes");
    lead.push(Bytes::from_static(b"hij"), 0);
    assert_eq!((drain(&early), ahead.of(b"hij")), (b"hij".to_vec(), 2));
    lead.complete();
    drop((lead, seat, early));
    let late = log.resume(9, &mut had(8)).unwrap();
    assert_eq!(late.rest().unwrap(), &b"ij"[..]);
    assert!(matches!(next(&late), Poll::Ready(None)) && log.left().is_none());
    drop(late);
    assert!(log.left().is_some());
}

#[test]
fn what_was_let_go_of_is_said_to_be_gone() {
    let hubs = hubs();
    let (lead, seat) = hubs.alone(KEY, 4);
    let log = lead.log();
    lead.push(bytes(3), 0);
    assert!(lead.is_whole());
    lead.push(bytes(3), 0);
    assert!(!lead.is_whole());
    let behind = log.resume(9, &mut had(0)).expect("nobody has read on yet");
    assert_eq!((drain(&behind).len(), drain(&seat).len()), (6, 6));
    assert_eq!(log.resume(9, &mut had(5)).err(), Some(Unresumed::Forgotten));
    let back = log.resume(9, &mut had(6)).expect("it has had all that was let go of");
    lead.push(bytes(2), 0);
    assert_eq!(drain(&back).len(), 2);
    lead.discard(7);
    assert_eq!(log.resume(9, &mut had(7)).err(), Some(Unresumed::Forgotten));
}

#[test]
fn so_many_may_come_back_and_those_who_joined_do_not_count() {
    let hubs = hubs();
    let (lead, first) = begin(&hubs, 100);
    let (log, joined) = (lead.log(), hubs.join(&KEY).unwrap());
    let second = log.resume(2, &mut had(0)).unwrap();
    assert_eq!(log.resume(2, &mut had(0)).err(), Some(Unresumed::Busy));
    drop(first);
    let third = log.resume(2, &mut had(0)).unwrap();
    assert_eq!(lead.cancelled(), None);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert!(lead.poll_deserted(&mut Context::from_waker(&waker)).is_pending());
    log.cancel();
    assert_eq!((bell.rung(), lead.cancelled()), (1, Some(false)), "another shares it");
    drop(joined);
    assert_eq!(lead.cancelled(), Some(true));
    drop((second, third));
    assert!(lead.poll_deserted(&mut Context::from_waker(&waker)).is_ready());
    bell.rung();
    let _back = log.resume(2, &mut had(0)).unwrap();
    assert_eq!(bell.rung(), 1, "who waits for somebody to come back is told");
}
