//! Which request a path is (OCI distribution specification, "Endpoints").

use std::collections::HashMap;

use super::reply::Problem;
use crate::reference::{is_repository, is_tag};

/// What is asked for, with names that are valid and everything else as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'p> {
    /// `/v2/`
    Base,
    /// `/token`
    Token,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(&'p str),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(&'p str, &'p str),
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifest(&'p str, &'p str),
    /// `/v2/<name>/blobs/<digest>`
    Blob(&'p str, &'p str),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(&'p str),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(&'p str, &'p str),
}

impl<'p> Route<'p> {
    /// Reads a path. The name of a repository may hold words such as `blobs`: the last ones count.
    pub(super) fn parse(path: &'p str) -> Result<Self, Problem> {
        if path == "/token" {
            return Ok(Self::Token);
        }
        let rest = path.strip_prefix("/v2").ok_or(Problem::Path)?;
        let rest = match rest {
            "" | "/" => return Ok(Self::Base),
            "/_catalog" => return Ok(Self::Catalog),
            _ => rest.strip_prefix('/').ok_or(Problem::Path)?,
        };
        let route = if let Some(name) = rest.strip_suffix("/tags/list") {
            Self::Tags(name)
        } else if let Some(name) = rest
            .strip_suffix("/blobs/uploads/")
            .or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            Self::Uploads(name)
        } else {
            let (front, last) = rest.rsplit_once('/').ok_or(Problem::Path)?;
            if let Some(name) = front.strip_suffix("/blobs/uploads") {
                Self::Upload(name, last)
            } else if let Some(name) = front.strip_suffix("/blobs") {
                Self::Blob(name, last)
            } else if let Some(name) = front.strip_suffix("/manifests") {
                Self::Manifest(name, last)
            } else if let Some(name) = front.strip_suffix("/referrers") {
                Self::Referrers(name, last)
            } else {
                return Err(Problem::Path);
            }
        };
        let (Self::Tags(name)
        | Self::Uploads(name)
        | Self::Upload(name, _)
        | Self::Blob(name, _)
        | Self::Manifest(name, _)
        | Self::Referrers(name, _)) = route
        else {
            return Ok(route);
        };
        if is_repository(name) && name.len() <= 255 {
            Ok(route)
        } else {
            Err(Problem::Name(name.to_owned()))
        }
    }
}

/// A tag, or an error that says what one is.
pub(super) fn tag(text: &str) -> Result<&str, Problem> {
    if is_tag(text) {
        Ok(text)
    } else {
        Err(Problem::Tag(text.to_owned()))
    }
}

/// The parameters behind the `?`; the first of a name counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let mut fields = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            fields
                .entry(name.into_owned())
                .or_insert_with(|| value.into_owned());
        }
        Self(fields)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoints_of_the_specification() {
        for (path, expected) in [
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags("a/b")),
            ("/v2/a/blobs/uploads/", Route::Uploads("a")),
            ("/v2/a/blobs/uploads/id", Route::Upload("a", "id")),
            ("/v2/a/blobs/sha256:x", Route::Blob("a", "sha256:x")),
            ("/v2/a/b/manifests/v1", Route::Manifest("a/b", "v1")),
            (
                "/v2/a/referrers/sha256:x",
                Route::Referrers("a", "sha256:x"),
            ),
            // Names that look like endpoints.
            ("/v2/blobs/manifests/v1", Route::Manifest("blobs", "v1")),
            ("/v2/a/manifests/blobs/x", Route::Blob("a/manifests", "x")),
        ] {
            assert_eq!(Route::parse(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn names_cannot_lead_out() {
        for path in [
            "/v2/../manifests/x",
            "/v2/a/../b/tags/list",
            "/v2/_blobs/tags/list",
            "/v2/A/tags/list",
            "/v2//tags/list",
        ] {
            assert!(
                matches!(Route::parse(path), Err(Problem::Name(_))),
                "{path}"
            );
        }
        for path in ["/", "/v1/x", "/v2x/", "/v2/a/b"] {
            assert!(matches!(Route::parse(path), Err(Problem::Path)), "{path}");
        }
        assert!(tag("..").is_err() && tag("a/b").is_err() && tag("v1.0").is_ok());
    }
}
