//! Fields that two managers want.

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldConflict {
    /// Path, `.spec.replicas`.
    pub field: String,
    /// Who owns it, as the server says: `"kubectl-edit" using apps/v1`.
    pub manager: String,
}

pub(super) fn list(fields: &[FieldConflict]) -> String {
    fields
        .iter()
        .map(|conflict| format!("{} ({})", conflict.field, conflict.manager))
        .collect::<Vec<_>>()
        .join(", ")
}
