//! What has been measured so far: shown at once, and kept as text and data.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, chain};
use crate::machine::Machine;
use crate::project;

/// A case as text and as data.
pub type Figures = (String, Value);

/// The outcome of a bench.
pub struct Record {
    text: String,
    cases: Vec<Value>,
    complete: bool,
}

impl Record {
    /// Starts with what every reader has to know first.
    pub fn new(head: String) -> Self {
        println!("{head}");
        Self {
            text: head,
            cases: Vec::new(),
            complete: true,
        }
    }

    /// Adds a case, or why it could not be measured.
    pub fn add(&mut self, case: &str, outcome: Result<Figures, Error>) {
        let table = match outcome {
            Ok((table, data)) => {
                self.cases.push(data);
                table
            }
            Err(error) => {
                self.complete = false;
                format!("{case} could not be measured: {}\n", chain(&error))
            }
        };
        println!("{table}");
        self.text.push_str(&table);
        self.text.push('\n');
    }

    /// Writes both forms; false when a case could not be measured.
    pub fn keep(self, machine: &Machine, folder: &Path) -> Result<bool, Error> {
        let data = json!({
            "machine": machine.hardware, "versions": machine.versions,
            "doubt": machine.doubt, "cases": self.cases,
        });
        project::write(&folder.join("report.txt"), &self.text)?;
        project::write(&folder.join("report.json"), &format!("{data:#}\n"))?;
        Ok(self.complete)
    }
}
