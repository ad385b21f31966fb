//! Hears the log of one build, wherever its lines come from: the connection
//! that brought the context, or the pod's log when that broke.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_schemas::event::{Event, Events};
use tokio::sync::oneshot;

use super::logs::Tail;
use super::lookup::Answer;
use super::progress::{Finished, Speech};

/// Shared by everyone who reads the log.
#[derive(Debug, Clone)]
pub(super) struct Listener(Arc<Mutex<Heard>>);

#[derive(Debug)]
struct Heard {
    speech: Speech,
    events: Events,
    image: String,
    tail: Tail,
    answers: BTreeMap<String, Answer>,
    /// The number of the last line, for the second reader.
    last: u64,
    finished: Option<oneshot::Sender<Finished>>,
}

impl Listener {
    /// Emits what is said as events of `image`; the receiver gets the last
    /// words of a build that went well.
    pub(super) fn new(
        speech: Speech,
        events: Events,
        image: String,
    ) -> (Self, oneshot::Receiver<Finished>) {
        let (finished, receiver) = oneshot::channel();
        let heard = Heard {
            speech,
            events,
            image,
            tail: Tail::default(),
            answers: BTreeMap::new(),
            last: 0,
            finished: Some(finished),
        };
        (Self(Arc::new(Mutex::new(heard))), receiver)
    }

    /// Takes a line; one that was heard before is dropped.
    pub(super) fn hear(&self, line: &str) {
        self.lock().hear(line);
    }

    /// The last lines for the user.
    pub(super) fn tail(&self) -> Vec<String> {
        self.lock().tail.lines()
    }

    /// What `executor lookup` said.
    pub(super) fn answers(&self) -> BTreeMap<String, Answer> {
        self.lock().answers.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn hear(&mut self, line: &str) {
        let said = self.speech.read(line);
        if let Some(number) = said.number() {
            if number <= self.last {
                return;
            }
            self.last = number;
        }
        if let Some((name, answer)) = said.image() {
            self.answers.insert(name, answer);
        }
        for event in said.events(&self.image) {
            if let Event::BuildLog { line, .. } = &event {
                self.tail.push(line);
            }
            self.events.emit(event);
        }
        if let Some(finished) = said.finished()
            && let Some(sender) = self.finished.take()
        {
            // Whoever followed the build may have gone.
            let _ = sender.send(finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_reader_tells_only_what_the_first_did_not() {
        let told = Arc::new(Mutex::new(0));
        let count = told.clone();
        let events = Events::new(move |_| *count.lock().unwrap() += 1);
        let (listener, mut finished) = Listener::new(Speech::Json, events, "app".to_owned());
        let note = |n: u64| format!(r#"{{"event":"note","text":"line {n}","n":{n}}}"#);
        listener.hear(&note(1));
        listener.hear(&note(2));
        for line in [note(1), note(2), note(3), "no object".to_owned()] {
            listener.hear(&line);
        }
        let lines = ["line 1", "line 2", "line 3", "no object"];
        assert_eq!(listener.tail(), lines);
        assert_eq!(*told.lock().unwrap(), lines.len());
        assert!(finished.try_recv().is_err());
    }
}
