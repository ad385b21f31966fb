//! Objects of Google Cloud Storage (its JSON API, "Objects: get").

use kiln_registry::credential::cloud::{Variables, google};
use kiln_registry::{Client, ServiceAnswer, ServiceRequest};
use url::Url;

use super::{FetchError, Object, checked};

const ENDPOINT: &str = "https://storage.googleapis.com";

pub(super) async fn open(
    client: &Client,
    variables: &Variables,
    object: &Object,
) -> Result<ServiceAnswer, FetchError> {
    // The variable of Google's own libraries; there it has no scheme.
    let emulator = variables
        .get("STORAGE_EMULATOR_HOST")
        .filter(|host| !host.is_empty());
    let base = match emulator {
        Some(host) if host.contains("://") => host.clone(),
        Some(host) => format!("http://{host}"),
        None => ENDPOINT.to_owned(),
    };
    let mut request = ServiceRequest::new(http::Method::GET, address(&base, object)?);
    match google::token(client, variables).await {
        Ok(token) => request = request.header("authorization", &format!("Bearer {token}")),
        // The object may be for everyone.
        Err(error) => tracing::debug!(%error, "the context is asked for without a login"),
    }
    checked(client.service(&request).await).await
}

fn address(base: &str, object: &Object) -> Result<Url, FetchError> {
    let wrong = |_| FetchError::Setting(format!("{base} is not an address"));
    let mut url = Url::parse(base).map_err(wrong)?;
    if let Ok(mut path) = url.path_segments_mut() {
        // A slash in the name is part of the name: it is written as %2F.
        path.pop_if_empty().extend([
            "storage",
            "v1",
            "b",
            object.bucket.as_str(),
            "o",
            object.key.as_str(),
        ]);
    }
    url.set_query(Some("alt=media"));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_in_a_name_is_part_of_it() {
        let object = Object {
            bucket: "b".to_owned(),
            key: "path/to/a b.tar".to_owned(),
        };
        assert_eq!(
            address(ENDPOINT, &object).unwrap().as_str(),
            "https://storage.googleapis.com/storage/v1/b/b/o/path%2Fto%2Fa%20b.tar?alt=media"
        );
    }
}
