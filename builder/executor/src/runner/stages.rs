//! The stages of a build, side by side: one waits for another only where it needs its files.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Instant;

use super::{Built, Report, RunError, Session, locked};
use crate::plan::Stage;
use crate::progress::Progress;

/// How much may be told before somebody hears it: then a stage waits, as a command does whose
/// output nobody reads.
const UNHEARD: usize = 256;

/// The most stages that have begun and are not done, those that wait for others included.
const THREADS: usize = 32;

/// The stack of a stage's thread; that of a first thread. Plans may be deep.
const STACK: usize = 8 << 20;

/// What the thread of a stage says.
enum Word {
    Progress(Progress),
    /// The stage ended, perhaps in a panic.
    End(usize, Box<thread::Result<Result<Built, RunError>>>),
}

impl Session<'_> {
    /// Builds the stages that are needed, several at a time. The first failure stops the others, and is
    /// what is returned.
    pub(super) fn stages(&self, report: Report<'_>) -> Result<(), RunError> {
        // What a stage needs stands before it, so those that run never all wait for one that does not.
        let mut waiting = self.plan.stages.iter().enumerate().filter(|(_, stage)| {
            // Nothing that is left to do needs the others.
            self.found.resolution.contains_key(&stage.index)
        });
        let turns = self.most_at_once();
        self.board.open(turns);
        // One at a time is the order of the plan.
        let most = if turns == 1 { 1 } else { THREADS.max(turns) };
        let mut clock = Clock::start();
        let mut failure = None;
        thread::scope(|scope| {
            let (words, heard) = sync_channel(UNHEARD);
            let mut running = 0;
            loop {
                while running < most
                    && failure.is_none()
                    && let Some((place, stage)) = waiting.next()
                {
                    match self.begin((place, stage), scope, words.clone()) {
                        Ok(()) => running += 1,
                        Err(error) => failure = Some(error),
                    }
                }
                if failure.is_some() {
                    self.give_up();
                }
                if running == 0 {
                    break;
                }
                let (index, end) = match heard.recv() {
                    Ok(Word::Progress(progress)) => {
                        report(clock.counted(progress, Instant::now()));
                        continue;
                    }
                    Ok(Word::End(index, end)) => (index, *end),
                    Err(_) => break, // never: `words` lives
                };
                running -= 1;
                match end {
                    Ok(Ok(built)) => self.board.add(index, built),
                    Ok(Err(error)) => {
                        failure.get_or_insert(error);
                    }
                    Err(panic) => {
                        self.give_up();
                        drop(heard);
                        resume_unwind(panic);
                    }
                }
            }
        });
        match failure {
            Some(error) => {
                self.settle();
                Err(error)
            }
            None => Ok(()),
        }
    }

    fn begin<'scope>(
        &'scope self,
        (place, stage): (usize, &'scope Stage),
        scope: &'scope Scope<'scope, '_>,
        words: SyncSender<Word>,
    ) -> Result<(), RunError> {
        let thread = thread::Builder::new()
            .name(format!("stage {}", stage.name))
            .stack_size(STACK);
        let work = move || {
            let mut tell = |progress| {
                // Nobody listens any more when there was a panic.
                let _ = words.send(Word::Progress(progress));
            };
            let choices = self.found.resolution.get(&stage.index);
            let choices = choices.map_or(&[][..], Vec::as_slice);
            let work = || match self.board.take_turn(place) {
                true => self.stage((place, stage), choices, &mut tell),
                false => Err(RunError::Cancelled),
            };
            let end = catch_unwind(AssertUnwindSafe(work));
            self.board.give_turn();
            let _ = words.send(Word::End(stage.index, Box::new(end)));
        };
        let started = thread.spawn_scoped(scope, work);
        started.map(drop).map_err(RunError::Resources)
    }

    /// Where there is no mount namespace all commands have one directory, and one after another.
    fn most_at_once(&self) -> usize {
        let ladder = self.ladder.as_ref();
        if ladder.is_some_and(|ladder| !ladder.chosen.has_mounts()) {
            return 1;
        }
        self.request.sandbox.jobs.map_or(1, NonZero::get)
    }

    /// Ends all commands that run, and all waiting.
    fn give_up(&self) {
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        self.board.give_up();
    }

    /// Waits until these stages are done, for the one in this place of the plan.
    pub(super) fn wait_for(
        &self,
        stages: impl IntoIterator<Item = usize>,
        place: usize,
    ) -> Result<(), RunError> {
        for index in stages {
            let is_built = self.found.resolution.contains_key(&index);
            if is_built && !self.board.wait(index, place) {
                return Err(RunError::Cancelled);
            }
        }
        self.check_cancelled()
    }
}

/// The stages that are done, and whose turn it is to work. A stage that waits for another one gives
/// its turn away, and gets one again before stages that come later in the plan.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    done: BTreeMap<usize, Arc<Mutex<Built>>>,
    /// How many more may work.
    free: usize,
    /// Who is ready to work, by place in the plan.
    ready: BTreeSet<usize>,
    /// No more will be done.
    is_over: bool,
}

impl Board {
    fn open(&self, turns: usize) {
        locked(&self.state).free = turns;
    }

    fn add(&self, index: usize, built: Built) {
        let built = Arc::new(Mutex::new(built));
        locked(&self.state).done.insert(index, built);
        self.changed.notify_all();
    }

    fn give_up(&self) {
        locked(&self.state).is_over = true;
        self.changed.notify_all();
    }

    /// A stage that was waited for; `None` where nothing that is left to do needs it.
    pub(super) fn get(&self, index: usize) -> Option<Arc<Mutex<Built>>> {
        locked(&self.state).done.get(&index).cloned()
    }

    /// Waits for a turn; false when there will be none.
    fn take_turn(&self, place: usize) -> bool {
        let mut state = locked(&self.state);
        state.ready.insert(place);
        while !state.is_over && (state.free == 0 || state.ready.first() != Some(&place)) {
            state = self.woken(state);
        }
        state.ready.remove(&place);
        state.free = state.free.saturating_sub(1);
        // The next one may have one as well.
        self.changed.notify_all();
        !state.is_over
    }

    fn give_turn(&self) {
        locked(&self.state).free += 1;
        self.changed.notify_all();
    }

    /// Waits until a stage is done, for the stage in this place; false when it never will be.
    fn wait(&self, index: usize, place: usize) -> bool {
        let mut state = locked(&self.state);
        if !state.done.contains_key(&index) {
            state.free += 1;
            self.changed.notify_all();
            while !state.is_over && !state.done.contains_key(&index) {
                state = self.woken(state);
            }
            drop(state);
            return self.take_turn(place);
        }
        !state.is_over
    }

    fn woken<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts time once in which several things went on: parts add up to no more than the whole.
struct Clock {
    counted_until: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            counted_until: Instant::now(),
        }
    }

    /// What ends at `now`, with that of its time which nothing else was counted in.
    fn counted(&mut self, progress: Progress, now: Instant) -> Progress {
        let Progress::Phase { phase, took } = progress else {
            return progress;
        };
        let own = now.saturating_duration_since(self.counted_until);
        self.counted_until = now;
        Progress::Phase {
            phase,
            took: took.min(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::progress::Phase;

    #[test]
    fn time_in_which_two_commands_run_counts_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let run = |seconds| Progress::Phase {
            phase: Phase::Run,
            took: Duration::from_secs(seconds),
        };
        let mut clock = Clock {
            counted_until: start,
        };
        let mut counted = |progress, now| match clock.counted(progress, at(now)) {
            Progress::Phase { took, .. } => took.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(counted(run(5), 6), 5, "alone");
        assert_eq!(counted(run(7), 8), 2, "since the end of the other one");
        assert_eq!(counted(run(8), 8), 0, "with the other one");
        assert_eq!(counted(run(1), 20), 1, "alone again");
    }
}
