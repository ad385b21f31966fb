//! Where readers put what they find.

use std::cell::{Cell, RefCell};

use crate::diagnostic::Diagnostic;

/// Collects findings; reading goes on so that the user sees all of them.
#[derive(Default)]
pub(crate) struct Report {
    /// While set, only what is malformed counts.
    lenient: Cell<bool>,
    errors: RefCell<Vec<Diagnostic>>,
    notes: RefCell<Vec<Diagnostic>>,
}

impl Report {
    pub(crate) fn error(&self, diagnostic: Diagnostic) {
        self.errors.borrow_mut().push(diagnostic);
    }

    pub(crate) fn note(&self, diagnostic: Diagnostic) {
        if !self.lenient.get() {
            self.notes.borrow_mut().push(diagnostic);
        }
    }

    /// Something that the format knows and Kiln does not support.
    pub(crate) fn refusal(&self, diagnostic: Diagnostic) {
        if !self.lenient.get() {
            self.error(diagnostic);
        }
    }

    /// Reads something that will not be used: no refusals, no notes.
    pub(crate) fn without_refusals(&self, read: impl FnOnce()) {
        self.lenient.set(true);
        read();
        self.lenient.set(false);
    }

    /// The notes when all went well, else the errors in file order.
    pub(crate) fn finish(self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            return Ok(self.notes.into_inner());
        }
        errors.sort_by_key(|error| (error.line, error.column));
        errors.dedup();
        Err(errors)
    }
}
