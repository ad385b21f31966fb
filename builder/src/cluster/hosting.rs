//! The registry that a local cluster says it has
//! (KEP-1755, ConfigMap `local-registry-hosting` in `kube-public`).

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;

use super::error::ApiError;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "local-registry-hosting";
const KEY: &str = "localRegistryHosting.v1";

/// What the ConfigMap says, if there is one that can be read. A cluster that
/// does not let the user read it has none for them.
pub async fn local_registry(client: &kube::Client) -> Result<Option<String>, ApiError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    match maps.get_opt(NAME).await {
        Ok(map) => Ok(map.and_then(|map| host(&map))),
        Err(error) => match ApiError::new("read the cluster's local registry", NAMESPACE, error) {
            ApiError::Forbidden(_) => Ok(None),
            error => Err(error),
        },
    }
}

/// The `host` of the YAML document in the map. It is one mapping of plain
/// strings, so a line is enough to find it.
fn host(map: &ConfigMap) -> Option<String> {
    let text = map.data.as_ref()?.get(KEY)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("host:"))?
        .trim();
    let value = value.split(" #").next().unwrap_or(value).trim();
    let quoted = serde_json::from_str::<Value>(value).ok();
    let value = match quoted {
        Some(Value::String(text)) => text,
        _ => value.trim_matches('\'').to_owned(),
    };
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> ConfigMap {
        ConfigMap {
            data: Some([(KEY.to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn the_host_is_found_as_kind_and_k3d_write_it() {
        for text in [
            "host: \"localhost:5001\"\nhelp: \"https://kind.sigs.k8s.io/docs/user/local-registry/\"\n",
            "host: localhost:5001\n",
            "help: x\nhost: 'localhost:5001' # the registry\n",
        ] {
            assert_eq!(
                host(&map(text)).as_deref(),
                Some("localhost:5001"),
                "{text}"
            );
        }
        assert_eq!(host(&map("help: nothing\n")), None);
        assert_eq!(host(&ConfigMap::default()), None);
    }
}
