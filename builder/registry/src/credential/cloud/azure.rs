//! Microsoft: a token of Entra ID, and what ACR gives for it.
//!
//! Sources: "Microsoft identity platform and the OAuth 2.0 client credentials flow", "Azure Workload Identity", ACR's
//! "AAD-OAuth" document for `/oauth2/exchange`.

use http::Method;
use serde::Deserialize;

use super::{CloudError, Credential, Variables, address, decoded, json, nearby, read, variable};
use crate::client::Client;
use crate::client::service::ServiceRequest;

const AUTHORITY: &str = "https://login.microsoftonline.com";
const INSTANCE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// Whom tokens for registries are meant for.
const MANAGEMENT: &str = "https://management.azure.com/";
/// Suffixes of Azure's registries, the national clouds included.
const SUFFIXES: [&str; 4] = [".azurecr.io", ".azurecr.cn", ".azurecr.de", ".azurecr.us"];

/// Whether a registry is Azure's: one name in front of the suffix, or two where it has a data endpoint.
pub(super) fn is_host(registry: &str) -> bool {
    SUFFIXES.iter().any(|suffix| {
        registry.strip_suffix(suffix).is_some_and(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        })
    })
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

/// The refresh token of a registry.
pub(super) async fn login(
    client: &Client,
    variables: &Variables,
    registry: &str,
) -> Result<Credential, CloudError> {
    let token = token(client, variables, MANAGEMENT).await?;
    let base = client.registry_url(registry).await.map_err(Box::new)?;
    let url = address(&format!("{}oauth2/exchange", base.as_str()))?;
    let mut fields = vec![
        ("grant_type", "access_token"),
        ("service", registry),
        ("access_token", token.as_str()),
    ];
    fields.extend(variable(variables, "AZURE_TENANT_ID").map(|tenant| ("tenant", tenant)));
    let request = ServiceRequest::new(Method::POST, url).form(&fields);
    let answer: Refresh = json(client, &request).await?;
    Ok(Credential::Identity(answer.refresh_token))
}

/// A token of Entra ID for `resource` (a URL that ends with `/`): by client secret, by workload identity, or by the
/// machine's managed identity.
///
/// # Errors
/// [`CloudError`], also where nothing identifies this machine.
pub async fn token(
    client: &Client,
    variables: &Variables,
    resource: &str,
) -> Result<String, CloudError> {
    let get = |name: &str| variable(variables, name);
    let identity = (get("AZURE_TENANT_ID"), get("AZURE_CLIENT_ID"));
    if let (Some(tenant), Some(id)) = identity {
        let authority = get("AZURE_AUTHORITY_HOST")
            .unwrap_or(AUTHORITY)
            .trim_end_matches('/');
        let url = address(&format!("{authority}/{tenant}/oauth2/v2.0/token"))?;
        let scope = format!("{resource}.default");
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("scope", scope.as_str()),
        ];
        let assertion;
        if let Some(secret) = get("AZURE_CLIENT_SECRET") {
            fields.push(("client_secret", secret));
            let request = ServiceRequest::new(Method::POST, url).form(&fields);
            return Ok(json::<Token>(client, &request).await?.access_token);
        }
        if let Some(file) = get("AZURE_FEDERATED_TOKEN_FILE") {
            assertion = read(file)?;
            fields.push((
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ));
            fields.push(("client_assertion", assertion.trim()));
            let request = ServiceRequest::new(Method::POST, url).form(&fields);
            return Ok(json::<Token>(client, &request).await?.access_token);
        }
    }
    let mut url = address(get("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or(INSTANCE))?;
    url.query_pairs_mut()
        .append_pair("api-version", "2018-02-01")
        .append_pair("resource", resource)
        .extend_pairs(get("AZURE_CLIENT_ID").map(|id| ("client_id", id)));
    let request = ServiceRequest::new(Method::GET, url).header("metadata", "true");
    let body = nearby(client, &request).await?;
    Ok(decoded::<Token>("the managed identity's token", &body)?.access_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_reach_hosts_that_only_look_like_azures() {
        for host in [
            "team.azurecr.io",
            "team.azurecr.cn",
            "team.westeurope.data.azurecr.io",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "azurecr.io",
            ".azurecr.io",
            "team.azurecr.io.evil.com",
            "teamazurecr.io",
            "team.azurecr.io:5000",
            "team.azurecr.evil",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }
}
