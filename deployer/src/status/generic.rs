//! Any other kind, by the conventions of conditions: `Stalled` is a failure,
//! `Reconciling` and a `Ready` that is not true are progress (kstatus).

use serde_json::Value;

use super::conditions::{Condition, condition};
use super::{Status, is_unobserved, unobserved};

pub(super) fn status(object: &Value) -> Status {
    if !object["status"]["observedGeneration"].is_null() && is_unobserved(object) {
        return unobserved();
    }
    if let Some(stalled) = condition(object, "Stalled").filter(Condition::is_true) {
        return Status::failed(format!("stalled: {}", stalled.words()));
    }
    if let Some(working) = condition(object, "Reconciling").filter(Condition::is_true) {
        return Status::in_progress(working.words());
    }
    match condition(object, "Ready") {
        Some(ready) if !ready.is_true() => {
            Status::in_progress(format!("not ready: {}", ready.words()))
        }
        _ => Status::ready("ready"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(generation: u32, conditions: Value) -> Status {
        status(&json!({"metadata": {"generation": generation},
            "status": {"observedGeneration": 2, "conditions": conditions}}))
    }

    #[test]
    fn conditions_decide() {
        let condition =
            |kind: &str, value: &str| json!([{"type": kind, "status": value, "message": "words"}]);
        assert_eq!(
            at(3, condition("Ready", "True")).message,
            "the controller has not seen the change yet"
        );
        assert_eq!(at(2, condition("Ready", "True")), Status::ready("ready"));
        assert_eq!(
            at(2, condition("Ready", "Unknown")),
            Status::in_progress("not ready: words")
        );
        assert_eq!(
            at(2, condition("Stalled", "True")),
            Status::failed("stalled: words")
        );
        assert_eq!(
            at(2, condition("Reconciling", "True")),
            Status::in_progress("words")
        );
        assert_eq!(status(&json!({"spec": {}})), Status::ready("ready"));
    }
}
