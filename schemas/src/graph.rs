//! The one question asked of the graph of required images.

use std::collections::{BTreeMap, BTreeSet};

/// A cycle, beginning and ending with the same name; the first one found in
/// the order of names. Edges to unknown names lead nowhere.
pub(crate) fn cycle<'a>(graph: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| follow(graph, start, &mut Vec::new(), &mut done))
}

fn follow<'a>(
    graph: &BTreeMap<&'a str, Vec<&'a str>>,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(start) = path.iter().position(|seen| *seen == name) {
        let mut cycle = path[start..].to_vec();
        cycle.push(name);
        return Some(cycle);
    }
    if !done.insert(name) {
        return None;
    }
    path.push(name);
    let found = graph
        .get(name)
        .into_iter()
        .flatten()
        .find_map(|next| follow(graph, next, path, done));
    path.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_named_from_its_first_member() {
        let graph = BTreeMap::from([("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["b"])]);
        assert_eq!(cycle(&graph), Some(vec!["b", "c", "b"]));
        let diamond = BTreeMap::from([("a", vec!["b", "c"]), ("b", vec!["d"]), ("c", vec!["d"])]);
        assert_eq!(cycle(&diamond), None);
    }
}
