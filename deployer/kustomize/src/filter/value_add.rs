//! `ValueAddTransformer`: a value put into fields, or into file paths that
//! stand in fields.

use crate::Error;
use crate::yaml::{Kind, Node, NodeId, Tree, ops};

/// Puts a value into a field of a resource. `position` counts the parts of a
/// file path from one; zero replaces the field.
pub(crate) fn add(
    t: &mut Tree,
    node: NodeId,
    value: &str,
    field: &str,
    position: usize,
) -> Result<(), Error> {
    let mut parts: Vec<String> = Vec::new();
    for part in field.split('/') {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push('/');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    let path: Vec<&str> = parts.iter().map(String::as_str).collect();
    let Some(found) = ops::lookup_create(t, node, &path, Kind::Scalar)? else {
        return Ok(());
    };
    ops::expect(t, found, Kind::Scalar)?;
    let text = if position > 0 {
        insert(&t[found].value, position - 1, value)
    } else {
        value.to_owned()
    };
    ops::set_scalar(t, found, Node::scalar(text))?;
    Ok(())
}

/// Inserts a part into a file path; a leading slash stays in front.
fn insert(path: &str, at: usize, part: &str) -> String {
    let (root, rest) = match path.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => ("", path),
    };
    let mut parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    parts.insert(at.min(parts.len()), part);
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_inserted_into_paths() {
        for (path, at, expected) in [
            ("", 0, "PEACH"),
            ("/", 0, "/PEACH"),
            ("pie", 0, "PEACH/pie"),
            ("/pie", 0, "/PEACH/pie"),
            ("raw", 9, "raw/PEACH"),
            ("/a/nice/warm/pie", 3, "/a/nice/warm/PEACH/pie"),
        ] {
            assert_eq!(insert(path, at, "PEACH"), expected);
        }
    }
}
