//! Values to YAML that every reader understands alike.

use serde_json::Value;

/// A value could not be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("cannot write YAML")]
pub struct EmitError(#[from] serde_saphyr::SerializeError);

/// Writes documents, separated by `---`.
///
/// Strings that YAML 1.1 reads as something else (`yes`, `on`, `0777`, `1e3`,
/// `2020-01-01`) are quoted; long lines are not folded.
pub fn to_string(documents: &[Value]) -> Result<String, EmitError> {
    let mut out = String::new();
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            out.push_str("---\n");
        }
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        out.push_str(&serde_saphyr::to_string_with_options(document, options)?);
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    Ok(out)
}
