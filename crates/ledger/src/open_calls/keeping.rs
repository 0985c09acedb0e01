//! What the thread does: rounds of writing and removing while there is something to do, looks at what other processes
//! left while there is something left, and nothing otherwise.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};

use super::folder::Folder;
use super::recovery::{Left, Recovery, is_all_on_disk};
use super::waiting::{Id, Work};
use super::{OnRecovered, Shared};

/// Between two rounds, at least: states that follow each other closely are written once.
const PAUSE: Duration = Duration::from_millis(200);
/// A round that took long is followed by a pause of this many times as long, so that the thread never takes more than a
/// fifth of a core.
const PAUSE_FACTOR: u32 = 4;
/// After a round that left something to do: the disk is not asked more often.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether another process is gone, and the longest pause while that fails.
const LOOK_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 2_000 });
const LONGEST_LOOK_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Keeping {
    shared: Arc<Shared>,
    recovery: Recovery,
    durably: bool,
    on_recovered: OnRecovered,
    /// The directory of this process, as soon as the disk has one.
    pub(super) folder: Option<Folder>,
    look_interval: Duration,
    next_look: Option<Instant>,
}

impl Keeping {
    pub(super) fn new(shared: Arc<Shared>, recovery: Recovery, durably: bool, on_recovered: OnRecovered) -> Self {
        let mut keeping = Self {
            shared,
            recovery,
            durably,
            on_recovered,
            folder: None,
            look_interval: LOOK_INTERVAL,
            next_look: None,
        };
        keeping.see_to_folder();
        // Who lived when it was looked first may be gone by now.
        keeping.next_look = keeping.needs_look().then(time::now);
        keeping
    }

    pub(super) fn run(mut self) {
        while !self.shared.rest(self.next_look) {
            if self.next_look.is_some_and(|due| time::now() >= due) {
                self.look();
            }
            if let Some(pause) = self.round() {
                self.shared.pause(time::now() + pause);
            }
        }
        self.round();
        if let Some(folder) = self.folder.take()
            && let Err(error) = folder.finish()
        {
            tracing::warn!(%error, "the directory of this process's open calls cannot be removed");
        }
    }

    fn look(&mut self) {
        self.see_to_folder();
        if self.recovery.left() != Left::Nothing {
            let on_recovered = &self.on_recovered;
            self.recovery.look(self.folder.as_ref(), &mut |entry| on_recovered(entry));
        }
        self.plan_next_look();
    }

    fn plan_next_look(&mut self) {
        let has_trouble = self.folder.is_none() || self.recovery.left() == Left::Trouble;
        self.look_interval =
            if has_trouble { (self.look_interval * 2).min(LONGEST_LOOK_INTERVAL) } else { LOOK_INTERVAL };
        self.next_look = self.needs_look().then(|| time::now() + self.look_interval);
    }

    fn needs_look(&self) -> bool {
        self.folder.is_none() || self.recovery.left() != Left::Nothing
    }

    /// Does what there is to do, once. How long to leave the disk alone after it; `None` if there was nothing.
    pub(super) fn round(&mut self) -> Option<Duration> {
        let most = self.shared.state().waiting.len();
        if most == 0 {
            return None;
        }
        let started = time::now();
        // While a record is only in memory, the file of its call is all that outlives this process.
        let can_remove = is_all_on_disk(&self.recovery.journal);
        let (mut is_all_done, mut has_written) = (true, false);
        let (mut write_problem, mut removal_problem) = (None, None);
        for _ in 0..most {
            let Some(work) = self.shared.state().waiting.next() else { break };
            // A disk that is full still removes.
            let done = match &work {
                Work::Write(id, payload) => {
                    write_problem.is_none() && {
                        has_written = true;
                        self.write(id, payload).unwrap_or_else(|error| note(&mut write_problem, error))
                    }
                }
                Work::Remove(id) => {
                    can_remove && removal_problem.is_none() && {
                        let removed = self.folder.as_ref().map_or(Ok(()), |folder| folder.remove(id));
                        removed.map_or_else(|error| note(&mut removal_problem, error), |()| true)
                    }
                }
            };
            is_all_done &= done;
            let mut state = self.shared.state();
            match work {
                work if !done => state.waiting.put_back(work),
                Work::Remove(id) => state.waiting.is_removed(&id),
                Work::Write(..) => {}
            }
        }
        if let Some(folder) = self.folder.as_ref().filter(|_| self.durably && has_written)
            && let Err(error) = folder.sync()
        {
            write_problem.get_or_insert(error);
        }
        self.tell(write_problem.or(removal_problem));
        let pause = PAUSE.max(time::now().saturating_duration_since(started) * PAUSE_FACTOR);
        Some(if is_all_done { pause } else { pause.max(TROUBLE_PAUSE) })
    }

    /// True if it is written; false if another process is in the way of making a directory.
    fn write(&mut self, id: &Id, payload: &[u8]) -> io::Result<bool> {
        if self.folder.is_none() {
            self.folder = self.recovery.root.make_own()?;
        }
        let Some(folder) = &self.folder else { return Ok(false) };
        let written = folder.write(id, payload, self.durably);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Somebody removed the directory, and the lock with it: the next round makes another.
            self.folder = None;
        }
        written.map(|()| true)
    }

    /// Makes the directory before there is anything to write: other processes must see that this one lives.
    fn see_to_folder(&mut self) {
        if self.folder.is_none() {
            let problem = self.recovery.root.make_own().map(|folder| self.folder = folder).err();
            self.tell(problem);
        }
    }

    /// Tells of a failure that begins, and of its end.
    fn tell(&self, problem: Option<io::Error>) {
        let mut state = self.shared.state();
        let is_news = state.trouble.is_some() != problem.is_some();
        state.trouble = problem.as_ref().map(ToString::to_string);
        drop(state);
        match problem {
            Some(error) if is_news => {
                let directory = self.recovery.root.path().display();
                tracing::error!(%directory, %error, "how open calls stand cannot be written; it is tried again");
            }
            None if is_news => tracing::info!("how open calls stand is written again"),
            _ => {}
        }
    }
}

/// Keeps a failure; it was not done.
fn note(problem: &mut Option<io::Error>, error: io::Error) -> bool {
    *problem = Some(error);
    false
}
