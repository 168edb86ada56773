//! The index over all tasks: who waits, who is next, what is due. Memory only, and one lock.
//!
//! Where a task stands in the index follows from its record and its stage alone ([`Book::index`]),
//! so a change is: out, changed, in again. The next to run is the oldest of the owner with the
//! fewest that run. Versions are drawn from one counter that begins at the time of the start, so
//! no two states of a task share one, over restarts too.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::entry::{Entry, Stage};
use super::log::Log;
use super::record::{Credential, Owner, Record};
use super::{State, Stop, TaskId, View};

/// No attempt waits longer, in milliseconds. One that seems to was told so by a clock that has been
/// set back since.
pub(super) const LONGEST_WAIT: u64 = 60 * 60 * 1000;
/// Versions in a millisecond.
const VERSIONS: u32 = 20;

/// What one owner has.
#[derive(Default)]
struct Page {
    order: BTreeSet<(u64, TaskId)>,
    /// Due to run, oldest first.
    queue: BTreeSet<(u64, TaskId)>,
    keys: HashMap<[u8; 32], TaskId>,
    aliases: HashMap<String, TaskId>,
    /// Tasks that are not over.
    open: usize,
    /// What all of them take ([`Record::room`]).
    bytes: u64,
    running: usize,
    /// Where it stands among those that are ready.
    ready: Option<(usize, u64)>,
}

/// How many tasks there are, and what they keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    states: [usize; State::ALL.len()],
    /// Of the requests of tasks that are not over, in bytes.
    pub request_bytes: u64,
    /// Of the answers that are kept, in bytes.
    pub result_bytes: u64,
    /// When the oldest was made that is due to run, in Unix milliseconds.
    pub oldest_due_ms: Option<u64>,
}

impl Figures {
    pub fn of(&self, state: State) -> usize {
        self.states[state as usize]
    }
}

pub(super) struct Book {
    entries: HashMap<TaskId, Entry>,
    order: BTreeSet<(u64, TaskId)>,
    owners: HashMap<Owner, Page>,
    /// Owners with a task that is due: fewest running first, then the oldest task.
    ready: BTreeSet<(usize, u64, Owner)>,
    /// To be tried again, by when.
    waits: BTreeSet<(u64, TaskId)>,
    /// When something ends by age: the wait, the answer, the tombstone.
    deadlines: BTreeSet<(u64, TaskId)>,
    running: BTreeSet<TaskId>,
    /// At rest, and to stop as soon as their holders have been told: why, and since when.
    pub(super) to_stop: BTreeMap<TaskId, (Stop, u64)>,
    /// Ends that the store has not taken yet.
    unsent: BTreeSet<TaskId>,
    /// Ends that somebody is still to be told of, by when they came.
    untold: BTreeSet<(u64, TaskId)>,
    figures: Figures,
    version: u64,
    /// The time as it was told last, and when.
    told: (u64, Instant),
}

impl Book {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeSet::new(),
            owners: HashMap::new(),
            ready: BTreeSet::new(),
            waits: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            running: BTreeSet::new(),
            to_stop: BTreeMap::new(),
            unsent: BTreeSet::new(),
            untold: BTreeSet::new(),
            figures: Figures::default(),
            version: now_ms << VERSIONS,
            told: (now_ms, Instant::now()),
        }
    }

    pub(super) fn tell_time(&mut self, now_ms: u64) {
        self.told = (now_ms, Instant::now());
    }

    pub(super) fn now(&self) -> u64 {
        self.told.0 + self.told.1.elapsed().as_millis() as u64
    }

    pub(super) fn figures(&self) -> Figures {
        let oldest_due_ms = self.ready.iter().map(|(_, created, _)| *created).min();
        Figures { oldest_due_ms, ..self.figures }
    }

    /// Tombstones among them.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// Tasks of an owner that are not over, and the bytes that all of its tasks take.
    pub(super) fn load(&self, owner: &Owner) -> (usize, u64) {
        self.owners.get(owner).map_or((0, 0), |page| (page.open, page.bytes))
    }

    pub(super) fn by_key(&self, owner: &Owner, key: &[u8; 32]) -> Option<TaskId> {
        self.owners.get(owner)?.keys.get(key).copied()
    }

    pub(super) fn by_alias(&self, owner: &Owner, alias: &str) -> Option<TaskId> {
        self.owners.get(owner)?.aliases.get(alias).copied()
    }

    pub(super) fn insert(
        &mut self,
        record: Arc<Record>,
        stage: Stage,
        credential: Option<Box<Credential>>,
    ) {
        let id = record.id;
        self.version += 1;
        let version = self.version;
        let entry = Entry { record, version, stage, credential, run: None, seen: None };
        self.entries.insert(id, entry);
        self.index(id, true);
    }

    /// As if it had never been there; who waits for it is told.
    pub(super) fn remove(&mut self, id: TaskId) -> Option<Entry> {
        self.index(id, false);
        self.entries.remove(&id)
    }

    /// The only way in which a task changes. `false`: it is gone, or its state may not become
    /// that; then nothing has changed.
    pub(super) fn change(&mut self, id: TaskId, change: impl FnOnce(&mut Entry)) -> bool {
        let legal = self.change_unseen(id, change);
        self.version += 1;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.version = self.version;
            entry.tell();
        }
        legal
    }

    /// The same for what nobody sees of it: it is told to nobody.
    pub(super) fn change_unseen(&mut self, id: TaskId, change: impl FnOnce(&mut Entry)) -> bool {
        self.index(id, false);
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let before = Arc::clone(&entry.record);
        change(entry);
        let (from, to) = (before.state, entry.record.state);
        let legal = from == to || from.may_become(to);
        if !legal {
            tracing::error!(%id, from = from.as_str(), to = to.as_str(), "a task may not do that");
            entry.record = before;
        }
        self.index(id, true);
        legal
    }

    /// Those that were to be tried again by `now` are due. How many.
    pub(super) fn release(&mut self, now: u64) -> usize {
        let (due, absurd) = ((now, LAST), (now.saturating_add(LONGEST_WAIT), LAST));
        let due = self.waits.range(..=due).chain(self.waits.range(absurd..));
        let due: Vec<_> = due.map(|(_, id)| *id).collect();
        for id in &due {
            self.change(*id, |entry| Arc::make_mut(&mut entry.record).next_ms = None);
        }
        due.len()
    }

    /// The next to run.
    pub(super) fn next(&self) -> Option<TaskId> {
        let (.., owner) = self.ready.first()?;
        self.owners.get(owner)?.queue.first().map(|(_, id)| *id)
    }

    /// What is due by age, oldest first.
    pub(super) fn overdue(&self, now: u64, most: usize) -> Vec<TaskId> {
        self.deadlines.range(..=(now, LAST)).take(most).map(|(_, id)| *id).collect()
    }

    /// Newest first, and those after `after`, which must be known.
    pub(super) fn list(
        &self,
        owner: Option<&Owner>,
        state: Option<State>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Vec<View> {
        let order = match owner {
            Some(owner) => self.owners.get(owner).map(|page| &page.order),
            None => Some(&self.order),
        };
        let before = match after.map(|id| self.entries.get(&id)) {
            None => (u64::MAX, LAST),
            Some(Some(entry)) => (entry.record.created_ms, entry.record.id),
            Some(None) => return Vec::new(),
        };
        let ids = order.into_iter().flat_map(|order| order.range(..before).rev());
        let entries = ids.filter_map(|(_, id)| self.entries.get(id));
        let fits = |entry: &&Entry| {
            let shown = !matches!(entry.stage, Stage::Admitting);
            shown && state.is_none_or(|state| entry.record.state == state)
        };
        entries.filter(fits).take(limit).map(|entry| self.view(entry)).collect()
    }

    pub(super) fn view(&self, entry: &Entry) -> View {
        let record = Arc::clone(&entry.record);
        let page = self.owners.get(&record.owner);
        let place = (record.created_ms, record.id);
        let waits = page.filter(|page| page.queue.contains(&place));
        let position = waits.map(|page| page.queue.range(..place).count());
        let (bytes, output_tokens) = match &entry.run {
            Some(run) => (run.log.bytes(), run.log.tokens()),
            None => (
                record.result.as_ref().map_or(0, |head| head.bytes),
                record.usage.map_or(0, |usage| usage.output),
            ),
        };
        View { record, position, bytes, output_tokens, version: entry.version }
    }

    /// Ends that are to be offered again.
    pub(super) fn unsent(&mut self) -> BTreeSet<TaskId> {
        std::mem::take(&mut self.unsent)
    }

    pub(super) fn offer_again(&mut self, id: TaskId) {
        self.unsent.insert(id);
    }

    /// Ends that somebody is still to be told of, oldest first.
    pub(super) fn untold(&self, most: usize) -> Vec<View> {
        let entries = self.untold.iter().filter_map(|(_, id)| self.entries.get(id));
        entries.take(most).map(|entry| self.view(entry)).collect()
    }

    /// Whoever was to be told of its end has been. What is shown of the task stays as it is, and
    /// so does its version. `false`: there was nothing to tell.
    pub(super) fn mark_told(&mut self, id: TaskId) -> bool {
        if !self.get(id).is_some_and(|entry| entry.record.is_untold()) {
            return false;
        }
        self.index(id, false);
        if let Some(entry) = self.entries.get_mut(&id) {
            Arc::make_mut(&mut entry.record).told = true;
        }
        self.index(id, true);
        true
    }

    /// Of the attempts that are under way.
    pub(super) fn logs(&self) -> Vec<(TaskId, Arc<Log>)> {
        let entries = self.running.iter().filter_map(|id| self.entries.get(id));
        let runs = entries.filter_map(|entry| Some((entry.record.id, entry.run.as_ref()?)));
        runs.map(|(id, run)| (id, Arc::clone(&run.log))).collect()
    }

    /// Puts a task into all the places where its record and its stage have it, or takes it out.
    fn index(&mut self, id: TaskId, there: bool) {
        let Some(entry) = self.entries.get(&id) else { return };
        let record = &*entry.record;
        let place = (record.created_ms, id);
        let page = self.owners.entry(record.owner).or_default();
        let over = record.state.is_terminal();
        count(&mut self.figures.states[record.state as usize], there);
        if !record.deleted {
            member(&mut self.order, place, there);
            member(&mut page.order, place, there);
        }
        if let Some(idempotency) = &record.idempotency {
            named(&mut page.keys, &idempotency.key, id, there);
        }
        for alias in &record.aliases {
            named(&mut page.aliases, alias, id, there);
        }
        add(&mut page.bytes, record.room(), there);
        member(&mut self.deadlines, (record.deadline(), id), there);
        if record.is_untold() {
            member(&mut self.untold, (record.finished_ms.unwrap_or_default(), id), there);
        }
        if !over {
            count(&mut page.open, there);
            add(&mut self.figures.request_bytes, record.request.body_bytes, there);
        } else if record.has_result() {
            let bytes = record.result.as_ref().map_or(0, |head| head.bytes);
            add(&mut self.figures.result_bytes, bytes, there);
        }
        let open = matches!(entry.stage, Stage::Open);
        match (record.state, record.next_ms) {
            (State::Running | State::Cancelling, _) => {
                count(&mut page.running, there);
                member(&mut self.running, id, there);
            }
            (State::RetryWait, Some(next)) if open => member(&mut self.waits, (next, id), there),
            (State::Queued | State::RetryWait, _) if open => {
                member(&mut page.queue, place, there);
            }
            _ => {}
        }
        let ready = page.queue.first().map(|(created, _)| (page.running, *created));
        if ready != page.ready {
            let owner = record.owner;
            if let Some((running, created)) = page.ready {
                self.ready.remove(&(running, created, owner));
            }
            if let Some((running, created)) = ready {
                self.ready.insert((running, created, owner));
            }
            page.ready = ready;
        }
        // each of its tasks takes some
        if page.bytes == 0 {
            self.owners.remove(&record.owner);
        }
    }
}

const LAST: TaskId = TaskId::LAST;

fn member<T: Ord>(set: &mut BTreeSet<T>, item: T, there: bool) {
    if there {
        set.insert(item);
    } else {
        set.remove(&item);
    }
}

fn named<K: Clone + Eq + std::hash::Hash>(
    map: &mut HashMap<K, TaskId>,
    name: &K,
    id: TaskId,
    there: bool,
) {
    if there {
        map.insert(name.clone(), id);
    } else if map.get(name) == Some(&id) {
        map.remove(name);
    }
}

fn count(of: &mut usize, there: bool) {
    *of = if there { *of + 1 } else { of.saturating_sub(1) };
}

fn add(of: &mut u64, bytes: u64, there: bool) {
    *of = if there { of.saturating_add(bytes) } else { of.saturating_sub(bytes) };
}
