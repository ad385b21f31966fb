//! Lists: tags, referrers, repositories (specification, "Listing Tags", "Listing Referrers"; distribution's catalog).

use http::Response;
use serde_json::json;

use super::reply::{Problem, ReplyBody, full, json, with};
use super::route::Query;
use super::{Inner, blocking};

/// The entries of one page: those after `last`, at most `n`, and whether there are more.
fn page(mut entries: Vec<String>, query: &Query) -> Result<(Vec<String>, bool), Problem> {
    if let Some(last) = query.get("last") {
        entries.retain(|entry| entry.as_str() > last);
    }
    let Some(text) = query.get("n") else {
        return Ok((entries, false));
    };
    let count: usize = text
        .parse()
        .map_err(|_| Problem::Size(format!("n={text}: expected a number")))?;
    let more = entries.len() > count && count > 0;
    entries.truncate(count);
    Ok((entries, more))
}

fn answer(
    path: &str,
    field: &str,
    (entries, more): (&[String], bool),
    query: &Query,
    rest: serde_json::Value,
) -> Response<ReplyBody> {
    let mut value = rest;
    value[field] = json!(entries);
    let mut response = json(200, value.to_string());
    if more && let (Some(last), Some(n)) = (entries.last(), query.get("n")) {
        let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
        let link = format!("<{path}?n={n}&last={last}>; rel=\"next\"");
        if let Ok(link) = link.parse() {
            response.headers_mut().insert("link", link);
        }
    }
    response
}

pub(super) async fn tags(
    inner: &Inner,
    name: &str,
    query: &Query,
) -> Result<Response<ReplyBody>, Problem> {
    let (storage, repository) = (inner.storage.clone(), name.to_owned());
    let all = blocking(move || {
        storage
            .tags(&repository)?
            .ok_or(Problem::NameUnknown(repository))
    })
    .await?;
    let (tags, more) = page(all, query)?;
    let path = format!("/v2/{name}/tags/list");
    Ok(answer(
        &path,
        "tags",
        (&tags, more),
        query,
        json!({"name": name}),
    ))
}

pub(super) async fn catalog(inner: &Inner, query: &Query) -> Result<Response<ReplyBody>, Problem> {
    let storage = inner.storage.clone();
    let all = blocking(move || storage.repositories()).await?;
    let (names, more) = page(all, query)?;
    Ok(answer(
        "/v2/_catalog",
        "repositories",
        (&names, more),
        query,
        json!({}),
    ))
}

/// An index of the manifests whose subject is this digest; empty when there are none.
pub(super) async fn referrers(
    inner: &Inner,
    name: &str,
    digest: &str,
    query: &Query,
) -> Result<Response<ReplyBody>, Problem> {
    let digest = super::blob::digest(digest)?;
    let (storage, name) = (inner.storage.clone(), name.to_owned());
    let mut found = blocking(move || storage.referrers(&name, &digest)).await?;
    let mut headers = vec![(
        "content-type",
        "application/vnd.oci.image.index.v1+json".to_owned(),
    )];
    if let Some(wanted) = query
        .get("artifactType")
        .filter(|wanted| !wanted.is_empty())
    {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
        headers.push(("oci-filters-applied", "artifactType".to_owned()));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": found,
    });
    let text = index.to_string();
    headers.push(("content-length", text.len().to_string()));
    Ok(with(200, &headers, full(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let all = || ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let of = |text: &str| page(all(), &Query::parse(Some(text))).unwrap();
        assert_eq!(of("n=2"), (vec!["a".to_owned(), "b".to_owned()], true));
        assert_eq!(
            of("n=2&last=b"),
            (vec!["c".to_owned(), "d".to_owned()], true)
        );
        assert_eq!(of("n=2&last=d"), (vec!["e".to_owned()], false));
        // "n=0" is an empty list (specification, "Listing Tags").
        assert_eq!(of("n=0"), (Vec::new(), false));
        assert_eq!(of("last=bb").0, ["c", "d", "e"]);
        assert!(page(all(), &Query::parse(Some("n=many"))).is_err());
    }
}
