//! A CustomResourceDefinition is ready when its kind is served.

use serde_json::Value;

use super::Status;
use super::conditions::condition;

pub(super) fn status(definition: &Value) -> Status {
    match condition(definition, "NamesAccepted") {
        Some(accepted) if accepted.status == "False" => {
            Status::failed(format!("its names are not accepted: {}", accepted.words()))
        }
        _ if condition(definition, "Established")
            .is_some_and(|established| established.is_true()) =>
        {
            Status::ready("established")
        }
        _ => Status::in_progress("is not established yet"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_must_be_accepted_and_the_kind_established() {
        let at = |kind: &str, value: &str| {
            status(&json!({"status": {"conditions": [
                {"type": kind, "status": value, "reason": "Conflict", "message": "\"zones\" is in use"}]}}))
        };
        assert_eq!(at("Established", "True"), Status::ready("established"));
        assert_eq!(
            at("Established", "False"),
            Status::in_progress("is not established yet")
        );
        assert_eq!(
            at("NamesAccepted", "False"),
            Status::failed("its names are not accepted: \"zones\" is in use")
        );
    }
}
