//! What the server says when it refuses an object: fields that others manage,
//! fields that cannot change.

use kube::core::Status;

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldConflict {
    /// Path, `.spec.replicas`.
    pub field: String,
    /// Who owns it, as the server says: `"kubectl-edit" using apps/v1`.
    pub manager: String,
}

impl std::fmt::Display for FieldConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is managed by {}", self.field, self.manager)
    }
}

/// The fields of a server-side apply conflict, empty for any other answer.
pub(super) fn conflicts(status: &Status) -> Vec<FieldConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| FieldConflict {
            field: cause.field.clone(),
            manager: cause
                .message
                .trim_start_matches("conflict with ")
                .to_owned(),
        })
        .collect()
}

/// How the API's validation words that a field cannot change. There is no
/// reason code for it: the causes are plain `FieldValueInvalid` and
/// `FieldValueForbidden` (apimachinery `pkg/api/validation/objectmeta.go`,
/// kubernetes `pkg/apis/{core,apps}/validation`).
const IMMUTABLE: [&str; 7] = [
    "field is immutable",
    "may not change once set",
    "is immutable after creation",
    "updates to statefulset spec for fields other than",
    "pod updates may not change fields other than",
    "cannot change roleRef",
    "may not be changed once set",
];

/// The fields that cannot change, if that alone is why the object was
/// refused; otherwise nothing.
pub(super) fn immutable_fields(status: &Status) -> Vec<String> {
    if !status.is_invalid() {
        return Vec::new();
    }
    let causes = status
        .details
        .as_ref()
        .map_or(&[][..], |details| &details.causes);
    let immutable = |message: &str| IMMUTABLE.iter().any(|words| message.contains(words));
    if causes.is_empty() || !causes.iter().all(|cause| immutable(&cause.message)) {
        return Vec::new();
    }
    let mut fields: Vec<_> = causes.iter().map(|cause| cause.field.clone()).collect();
    fields.dedup();
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(code: u16, reason: &str, causes: serde_json::Value) -> Status {
        let body = json!({"status": "Failure", "code": code, "reason": reason, "message": "m",
            "details": {"causes": causes}});
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_conflict_is_read_field_by_field() {
        // As a 1.34 API server answers.
        let answer = status(
            409,
            "Conflict",
            json!([
            {"reason": "FieldManagerConflict", "field": ".spec.replicas",
             "message": "conflict with \"kubectl-edit\" using apps/v1"},
            {"reason": "FieldManagerConflict", "field": ".data.key", "message": "conflict with \"other\""}]),
        );
        let read: Vec<_> = conflicts(&answer).iter().map(ToString::to_string).collect();
        assert_eq!(
            read,
            [
                ".spec.replicas is managed by \"kubectl-edit\" using apps/v1",
                ".data.key is managed by \"other\""
            ]
        );
        assert!(conflicts(&status(409, "Conflict", json!([]))).is_empty());
    }

    #[test]
    fn immutable_fields_are_told_from_plain_mistakes() {
        let job = json!({"reason": "FieldValueInvalid", "field": "spec.template",
            "message": "Invalid value: {...}: field is immutable"});
        let typo = json!({"reason": "FieldValueInvalid", "field": "spec.replicas",
            "message": "Invalid value: -1: must be greater than or equal to 0"});
        assert_eq!(
            immutable_fields(&status(422, "Invalid", json!([job]))),
            ["spec.template"]
        );
        assert!(immutable_fields(&status(422, "Invalid", json!([job, typo]))).is_empty());
        assert!(immutable_fields(&status(422, "Invalid", json!([]))).is_empty());
    }
}
