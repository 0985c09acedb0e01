//! What is still to be done on disk: at most one thing for each call, the newest. Pure, and bounded.

use std::collections::{HashMap, VecDeque};

/// Id of a record.
pub(super) type Id = [u8; 16];

/// Most calls that are known at once, and most bytes that wait: above what a process of this size has open.
const MOST_CALLS: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;
/// A map that grew larger than this gives its memory back once it is empty.
const KEPT_CAPACITY: usize = 1_024;

/// The calls that have a file or wait for one.
#[derive(Debug)]
pub(super) struct Waiting {
    calls: HashMap<Id, Call>,
    /// In the order they came. What is in here once more than it is due is passed over.
    due: VecDeque<Id>,
    /// Of all payloads.
    bytes: usize,
    most_calls: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Call {
    /// The newest state that is not on disk.
    payload: Option<Vec<u8>>,
    /// An older state is on disk, or may be.
    has_file: bool,
    /// Its record was emitted: only the file is left to remove.
    is_forgotten: bool,
    is_due: bool,
}

/// One thing to do on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Write(Id, Vec<u8>),
    Remove(Id),
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self::bounded(MOST_CALLS, MOST_BYTES)
    }

    fn bounded(most_calls: usize, most_bytes: usize) -> Self {
        Self { calls: HashMap::new(), due: VecDeque::new(), bytes: 0, most_calls, most_bytes }
    }

    /// Takes a newer state of a call. False if there is no room for it: the older one stays.
    pub(super) fn put(&mut self, id: Id, payload: Vec<u8>) -> bool {
        let known = self.calls.get(&id);
        if known.is_some_and(|call| call.is_forgotten) {
            return true;
        }
        let replaced = known.and_then(|call| call.payload.as_ref()).map_or(0, Vec::len);
        let bytes = self.bytes - replaced + payload.len();
        if bytes > self.most_bytes || (known.is_none() && self.calls.len() >= self.most_calls) {
            return false;
        }
        self.bytes = bytes;
        self.calls.entry(id).or_default().payload = Some(payload);
        self.make_due(id);
        true
    }

    /// The call's record was emitted.
    pub(super) fn forget(&mut self, id: &Id) {
        let Some(call) = self.calls.get_mut(id) else { return };
        self.bytes -= call.payload.take().map_or(0, |payload| payload.len());
        if call.has_file {
            call.is_forgotten = true;
            self.make_due(*id);
        } else {
            self.drop_call(id);
        }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.due.is_empty()
    }

    /// How many things there are to do, at most.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// What is to be done next. What came of it is told with [`Self::is_removed`] or [`Self::put_back`]; a state that
    /// was written needs no word.
    pub(super) fn next(&mut self) -> Option<Work> {
        while let Some(id) = self.due.pop_front() {
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.is_due) else { continue };
            call.is_due = false;
            if call.is_forgotten {
                return Some(Work::Remove(id));
            }
            if let Some(payload) = call.payload.take() {
                // From now on the file may be there, whether the write is heard of again or not.
                call.has_file = true;
                self.bytes -= payload.len();
                return Some(Work::Write(id, payload));
            }
        }
        None
    }

    /// The file of a forgotten call is gone.
    pub(super) fn is_removed(&mut self, id: &Id) {
        self.drop_call(id);
    }

    /// It could not be done now. A state that was followed by a newer one, or by the call's end, is not needed again.
    pub(super) fn put_back(&mut self, work: Work) {
        match work {
            Work::Write(id, payload) => {
                let Some(call) = self.calls.get_mut(&id) else { return };
                if call.is_forgotten || call.payload.is_some() {
                    return;
                }
                self.bytes += payload.len();
                call.payload = Some(payload);
                self.make_due(id);
            }
            Work::Remove(id) => self.make_due(id),
        }
    }

    fn make_due(&mut self, id: Id) {
        if let Some(call) = self.calls.get_mut(&id)
            && !call.is_due
        {
            call.is_due = true;
            self.due.push_back(id);
        }
        // Those that were forgotten meanwhile stay in the queue until their turn, which a disk that hangs puts off.
        if self.due.len() > 2 * self.calls.len() + KEPT_CAPACITY {
            self.due.retain(|id| self.calls.get(id).is_some_and(|call| call.is_due));
        }
    }

    fn drop_call(&mut self, id: &Id) {
        self.calls.remove(id);
        if self.calls.is_empty() && self.calls.capacity() > KEPT_CAPACITY {
            self.calls.shrink_to_fit();
            self.due = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const A: Id = [1; 16];
    const B: Id = [2; 16];

    fn write(id: Id, payload: &[u8]) -> Option<Work> {
        Some(Work::Write(id, payload.to_vec()))
    }

    #[test]
    fn the_newest_state_of_each_call_is_written_once() {
        let mut waiting = Waiting::new();
        for payload in [b"one", b"two"] {
            assert!(waiting.put(A, payload.to_vec()) && waiting.put(B, payload.to_vec()));
        }
        assert_eq!(waiting.len(), 2);
        assert_eq!([waiting.next(), waiting.next(), waiting.next()], [write(A, b"two"), write(B, b"two"), None]);
        assert!(waiting.put(A, b"three".to_vec()));
        assert_eq!([waiting.next(), waiting.next()], [write(A, b"three"), None]);
    }

    #[test]
    fn a_call_that_is_forgotten_before_its_turn_never_reaches_the_disk() {
        let mut waiting = Waiting::new();
        waiting.forget(&A);
        assert!(waiting.put(A, b"one".to_vec()));
        waiting.forget(&A);
        assert_eq!((waiting.next(), waiting.bytes, waiting.calls.len()), (None, 0, 0));
    }

    #[test]
    fn one_with_a_file_is_removed_whatever_was_still_to_be_written() {
        let mut waiting = Waiting::new();
        assert!(waiting.put(A, b"one".to_vec()));
        let written = waiting.next();
        assert_eq!(written, write(A, b"one"));
        assert!(waiting.put(A, b"two".to_vec()));
        waiting.forget(&A);
        assert!(waiting.put(A, b"three".to_vec()), "what comes too late is let go");
        waiting.put_back(written.unwrap());
        assert_eq!([waiting.next(), waiting.next()], [Some(Work::Remove(A)), None]);
        waiting.put_back(Work::Remove(A));
        assert_eq!(waiting.next(), Some(Work::Remove(A)));
        waiting.is_removed(&A);
        assert_eq!((waiting.bytes, waiting.calls.len(), waiting.is_idle()), (0, 0, true));
    }

    #[test]
    fn what_cannot_be_written_waits_unless_something_newer_came() {
        let mut waiting = Waiting::new();
        assert!(waiting.put(A, b"one".to_vec()) && waiting.put(B, b"one".to_vec()));
        let failed = [waiting.next(), waiting.next()];
        assert!(waiting.put(B, b"two".to_vec()));
        for work in failed.into_iter().flatten() {
            waiting.put_back(work);
        }
        assert_eq!([waiting.next(), waiting.next(), waiting.next()], [write(B, b"two"), write(A, b"one"), None]);
    }

    #[test]
    fn what_is_above_the_bounds_is_left_out_and_the_older_state_stays() {
        let mut waiting = Waiting::bounded(2, 6);
        assert!(waiting.put(A, b"one".to_vec()));
        assert!(waiting.put(B, b"two".to_vec()));
        assert!(!waiting.put([3; 16], Vec::new()), "too many calls");
        assert!(!waiting.put(A, b"four".to_vec()), "too many bytes");
        assert!(waiting.put(A, b"six".to_vec()), "as long as before");
        assert_eq!([waiting.next(), waiting.next()], [write(A, b"six"), write(B, b"two")]);
        assert!(!waiting.put(A, b"seven bytes".to_vec()));
        assert!(waiting.put(A, b"eleven".to_vec()), "what is being written no longer waits");
    }

    #[test]
    fn memory_of_many_calls_is_given_back() {
        let mut waiting = Waiting::new();
        let ids = || (0..10_000_u128).map(u128::to_be_bytes);
        assert!(ids().all(|id| waiting.put(id, vec![0; 10])));
        ids().for_each(|id| waiting.forget(&id));
        assert!(waiting.calls.capacity() <= KEPT_CAPACITY && waiting.due.capacity() <= KEPT_CAPACITY);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn a_disk_that_hangs_costs_no_memory_for_calls_that_came_and_went() {
        let mut waiting = Waiting::new();
        assert!(waiting.put(A, b"open".to_vec()));
        for number in 0..100_000_u128 {
            assert!(waiting.put(number.to_be_bytes(), vec![0; 10]));
            waiting.forget(&number.to_be_bytes());
        }
        assert!(waiting.due.len() <= 2 * KEPT_CAPACITY, "{}", waiting.due.len());
        assert_eq!([waiting.next(), waiting.next()], [write(A, b"open"), None]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Forget(u8),
        Work { fails: bool },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u8).prop_map(Step::Put),
            (0..4_u8).prop_map(Step::Forget),
            any::<bool>().prop_map(|fails| Step::Work { fails }),
        ]
    }

    proptest! {
        #[test]
        fn in_the_end_the_disk_has_the_newest_state_of_what_is_open_and_nothing_else(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut waiting = Waiting::new();
            let (mut open, mut ended, mut disk) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
            let mut work = |waiting: &mut Waiting, fails: bool| match waiting.next() {
                Some(work) if fails => waiting.put_back(work),
                Some(Work::Write(id, payload)) => drop(disk.insert(id, payload)),
                Some(Work::Remove(id)) => {
                    disk.remove(&id);
                    waiting.is_removed(&id);
                }
                None => {}
            };
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(id) if !ended.contains(&id) => {
                        let payload = vec![0; number];
                        open.insert([id; 16], payload.clone());
                        prop_assert!(waiting.put([id; 16], payload));
                    }
                    Step::Put(_) => {}
                    Step::Forget(id) => {
                        open.remove(&[id; 16]);
                        ended.push(id);
                        waiting.forget(&[id; 16]);
                    }
                    Step::Work { fails } => work(&mut waiting, fails),
                }
            }
            while !waiting.is_idle() {
                work(&mut waiting, false);
            }
            prop_assert_eq!(disk, open);
            prop_assert_eq!(waiting.bytes, 0);
        }
    }
}
