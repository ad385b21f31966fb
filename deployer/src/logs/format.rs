//! How a line looks: its prefix, and the fields of one that is JSON.

use kiln_schemas::model::LogPrefix;
use serde_json::Value;

/// What stands in front of a line: `[container] `, `[pod container] ` or
/// nothing.
pub fn prefix(mode: LogPrefix, pod: &str, container: &str) -> String {
    match mode {
        LogPrefix::None => String::new(),
        LogPrefix::Auto if pod == container => format!("[{container}] "),
        LogPrefix::Container => format!("[{container}] "),
        LogPrefix::PodAndContainer | LogPrefix::Auto => format!("[{pod} {container}] "),
    }
}

/// Of a line that is a JSON object, only these fields: `key: value, key:
/// value`, in the order of `fields`. Any other line, and one that has none of
/// the fields, stays whole.
pub(super) fn reduce(line: String, fields: &[String]) -> String {
    if fields.is_empty() || !line.trim_start().starts_with('{') {
        return line;
    }
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(&line) else {
        return line;
    };
    let shown = fields
        .iter()
        .filter_map(|field| object.get(field).map(|value| (field, value)));
    let shown: Vec<_> = shown
        .map(|(field, value)| match value {
            Value::String(text) => format!("{field}: {text}"),
            other => format!("{field}: {other}"),
        })
        .collect();
    if shown.is_empty() {
        line
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_prefix() {
        assert_eq!(prefix(LogPrefix::Container, "web-1", "app"), "[app] ");
        assert_eq!(
            prefix(LogPrefix::PodAndContainer, "web-1", "app"),
            "[web-1 app] "
        );
        assert_eq!(prefix(LogPrefix::Auto, "web-1", "app"), "[web-1 app] ");
        assert_eq!(prefix(LogPrefix::Auto, "app", "app"), "[app] ");
        assert_eq!(prefix(LogPrefix::None, "web-1", "app"), "");
    }

    #[test]
    fn json_lines_are_reduced_to_the_wanted_fields() {
        let fields = ["level".to_owned(), "n".to_owned()];
        let line = r#"{"time":"t","n":3,"level":"info"}"#;
        assert_eq!(reduce(line.into(), &fields), "level: info, n: 3");
        assert_eq!(reduce(line.into(), &[]), line);
        for whole in ["plain text", "{broken", r#"{"other":1}"#, "[1]"] {
            assert_eq!(reduce(whole.into(), &fields), whole);
        }
    }
}
