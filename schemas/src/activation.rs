//! The patterns that activate profiles, alike in both front ends.

use regex::Regex;

/// A pattern that is no regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a regular expression")]
pub(crate) struct BadPattern(pub(crate) String);

/// Whether `actual` is `wanted` or matches it as a regular expression
/// anywhere; a leading `!` negates (skaffold's `profiles.go`, satisfies).
pub(crate) fn satisfies(wanted: &str, actual: &str) -> Result<bool, BadPattern> {
    let (negated, pattern) = match wanted.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, wanted),
    };
    if actual == pattern {
        return Ok(!negated);
    }
    let regex = Regex::new(pattern).map_err(|_| BadPattern(pattern.to_owned()))?;
    Ok(regex.is_match(actual) != negated)
}

/// The same for an environment variable, where an empty pattern means unset
/// or empty: as a regular expression it would match everything.
pub(crate) fn env_satisfies(wanted: &str, actual: Option<&String>) -> Result<bool, BadPattern> {
    let actual = actual.map_or("", String::as_str);
    if wanted.is_empty() {
        Ok(actual.is_empty())
    } else {
        satisfies(wanted, actual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_and_negate() {
        for (wanted, actual, expected) in [
            ("minikube", "minikube", true),
            ("kind-.*", "kind-dev", true),
            ("ind", "kind-dev", true),
            ("!prod", "dev", true),
            ("!prod", "prod", false),
            ("gke_(", "gke_(", true),
        ] {
            assert_eq!(satisfies(wanted, actual), Ok(expected), "{wanted} {actual}");
        }
        assert_eq!(satisfies("gke_(", "x"), Err(BadPattern("gke_(".to_owned())));
        assert_eq!(env_satisfies("", None), Ok(true));
        assert_eq!(env_satisfies("", Some(&"1".to_owned())), Ok(false));
    }
}
