//! Fields that the server does not know, dropped when the user asks for it
//! (kubectl's `--validate=false`). Server-side apply refuses them whatever
//! `fieldValidation` says, and names them in its message only: the answer has
//! neither reason nor causes (structured-merge-diff, `typed/validate.go`).

use serde_json::Value;

/// How the server ends each complaint.
const UNKNOWN: &str = ": field not declared in schema";

/// Removes every field that `message` names as unknown; whether any was there.
pub(super) fn remove(object: &mut Value, message: &str) -> bool {
    let mut removed = false;
    for complaint in message.split(UNKNOWN) {
        let path = complaint
            .rsplit(char::is_whitespace)
            .next()
            .unwrap_or_default();
        if let Some(steps) = parse(path) {
            removed |= remove_at(object, &steps);
        }
    }
    removed
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// `.key`
    Key(String),
    /// `[3]`
    Index(usize),
    /// `[name="web"]`, with several terms `[port=80,protocol="TCP"]`
    Item(Vec<(String, Value)>),
}

/// `.spec.containers[name="web"].image`
fn parse(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            steps.push(Step::Key(after[..end].to_owned()));
            rest = &after[end..];
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(match inside.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Item(inside.split(',').map(term).collect::<Option<_>>()?),
            });
            rest = after;
        }
    }
    (!steps.is_empty()).then_some(steps)
}

fn term(text: &str) -> Option<(String, Value)> {
    let (key, value) = text.split_once('=')?;
    Some((key.to_owned(), serde_json::from_str(value).ok()?))
}

fn remove_at(value: &mut Value, steps: &[Step]) -> bool {
    match steps {
        [] => false,
        [Step::Key(key)] => value
            .as_object_mut()
            .is_some_and(|fields| fields.shift_remove(key).is_some()),
        [Step::Key(key), rest @ ..] => value
            .get_mut(key)
            .is_some_and(|field| remove_at(field, rest)),
        [Step::Index(index), rest @ ..] => value
            .get_mut(index)
            .is_some_and(|item| remove_at(item, rest)),
        [Step::Item(terms), rest @ ..] => {
            let is_meant =
                |item: &&mut Value| terms.iter().all(|(key, wanted)| item[key] == *wanted);
            let items = value.as_array_mut().into_iter().flatten();
            items
                .filter(is_meant)
                .fold(false, |removed, item| removed | remove_at(item, rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_names_is_removed_and_nothing_else() {
        let mut object = json!({"datta": 1, "data": {"a": "b"}, "spec": {"containers": [
            {"name": "web", "imagge": "x", "image": "y"}, {"name": "other", "imagge": "z"}]}});
        // As a 1.34 API server writes one and several of them.
        let one = "failed to create typed patch object (ns/t; /v1, Kind=ConfigMap): \
            .datta: field not declared in schema";
        assert!(remove(&mut object, one));
        let several = "failed to create typed patch object (ns/t; apps/v1, Kind=Deployment): errors:\n  \
            .spec.containers[name=\"web\"].imagge: field not declared in schema\n  \
            .spec.nothing: field not declared in schema";
        assert!(remove(&mut object, several));
        assert_eq!(
            object,
            json!({"data": {"a": "b"}, "spec": {"containers": [
                {"name": "web", "image": "y"}, {"name": "other", "imagge": "z"}]}})
        );
        assert!(
            !remove(&mut object, several),
            "what is gone cannot be removed again"
        );
        assert!(!remove(&mut object, "something else went wrong"));
    }

    #[test]
    fn paths_have_keys_indices_and_items() {
        let item = Step::Item(vec![
            ("port".into(), json!(80)),
            ("protocol".into(), json!("TCP")),
        ]);
        assert_eq!(
            parse(".ports[port=80,protocol=\"TCP\"].x[2]").unwrap(),
            [
                Step::Key("ports".into()),
                item,
                Step::Key("x".into()),
                Step::Index(2)
            ]
        );
        assert_eq!(parse("nonsense"), None);
    }
}
