//! Conditions, as every kind writes them.

use serde_json::Value;

/// One condition of an object.
pub(super) struct Condition<'a> {
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

impl Condition<'_> {
    /// Whether it holds.
    pub(super) fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// Its message, or its reason where it has none.
    pub(super) fn words(&self) -> &str {
        if self.message.is_empty() {
            self.reason
        } else {
            self.message
        }
    }
}

/// The condition of a type.
pub(super) fn condition<'a>(object: &'a Value, of_type: &str) -> Option<Condition<'a>> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == of_type)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some(Condition {
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
    })
}
