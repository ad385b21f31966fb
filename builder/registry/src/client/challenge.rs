//! Reads `WWW-Authenticate` (RFC 9110, 11.6.1; distribution, "Token Authentication").

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The name of the registry as the token server knows it.
        service: Option<String>,
        /// The scopes that the refused request needs.
        scope: Vec<String>,
        /// Why a token that was sent did not do.
        error: Option<String>,
    },
}

/// The challenge to answer: Bearer where it is offered, else Basic.
#[must_use]
pub fn choose(headers: &HeaderMap) -> Option<Challenge> {
    let offered: Vec<Challenge> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = offered
        .iter()
        .find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(offered.first()).cloned()
}

/// All challenges of one header that are known here.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let scheme_end = rest
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(rest.len());
        let scheme = &rest[..scheme_end];
        let (parameters, tail) = parameters(&rest[scheme_end..]);
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            let scope = get("scope").unwrap_or_default();
            let scope = scope.split_whitespace().map(str::to_owned).collect();
            found.push(Challenge::Bearer {
                realm,
                service: get("service"),
                scope,
                error: get("error"),
            });
        }
        rest = tail.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if rest.len() >= header.len() {
            break;
        }
    }
    found
}

/// `key=value, key="value"` up to the next scheme, and what follows.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut list = Vec::new();
    let mut rest = text;
    loop {
        let start = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let key_end = start
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
            .unwrap_or(start.len());
        let after_key = start[key_end..].trim_start();
        let Some(value) = after_key.strip_prefix('=').filter(|_| key_end > 0) else {
            return (list, start);
        };
        let (value, tail) = self::value(value.trim_start());
        list.push((start[..key_end].to_owned(), value));
        rest = tail;
    }
}

/// A token or a quoted string, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(headers: &[&str]) -> Option<Challenge> {
        choose(
            &headers
                .iter()
                .map(|value| (WWW_AUTHENTICATE, value.parse().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn reads_the_example_of_the_token_specification() {
        // distribution, docs/content/spec/auth/token.md
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:samalba/my-app:pull,push""#;
        assert_eq!(
            chosen(&[header]),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: vec!["repository:samalba/my-app:pull,push".into()],
                error: None,
            })
        );
    }

    #[test]
    fn bearer_wins_over_basic_in_any_form() {
        let two_headers = chosen(&["Basic realm=\"x\"", "Bearer realm=\"https://t\""]);
        let one_header = chosen(&[
            "Basic realm=\"x, y\", bearer realm=\"https://t\", error=\"insufficient_scope\"",
        ]);
        assert!(matches!(two_headers, Some(Challenge::Bearer { .. })));
        let Some(Challenge::Bearer { realm, error, .. }) = one_header else {
            panic!("bearer")
        };
        assert_eq!(
            (realm.as_str(), error.as_deref()),
            ("https://t", Some("insufficient_scope"))
        );
    }

    #[test]
    fn several_scopes_and_escapes() {
        let Some(Challenge::Bearer { scope, service, .. }) = chosen(&[
            r#"Bearer realm=https://t/a?b,service="a \"b\"",scope="repository:a:pull repository:b:pull""#,
        ]) else {
            panic!("bearer")
        };
        assert_eq!(scope, ["repository:a:pull", "repository:b:pull"]);
        assert_eq!(service.as_deref(), Some("a \"b\""));
    }

    #[test]
    fn odd_headers_end_and_offer_nothing() {
        for header in [
            "",
            ",",
            "Negotiate",
            "Bearer",
            "Bearer realm",
            "=",
            "Bearer service=\"x",
            "Digest a=\"\\",
            "===",
            "a =b c= d",
        ] {
            assert_eq!(chosen(&[header]), None, "{header:?}");
        }
        assert_eq!(chosen(&["Negotiate, Basic"]), Some(Challenge::Basic));
    }
}
