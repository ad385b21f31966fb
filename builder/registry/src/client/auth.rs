//! Logs in when a registry asks for it, and keeps the tokens until they expire.
//!
//! Sources: distribution, "Token Authentication" and "OAuth2 Token Authentication"; RFC 6749 for the grants.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::Client;
use super::challenge::{self, Challenge};
use super::target::Target;
use super::transport::{Body, Outgoing, plain_allowed};
use crate::credential::{Credential, Lookup, cloud};
use crate::error::Error;

/// How we call ourselves to token servers.
const CLIENT_ID: &str = "kiln";
/// Lifetime of a token whose server does not say (distribution: "defaults to 60 seconds").
const DEFAULT_LIFETIME: u64 = 60;
/// The longest time before its end that a token is given up.
const MARGIN: Duration = Duration::from_secs(10);

/// What a request needs to be allowed to do: `repository:app:pull,push`, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Reading from `repository`.
    pub(super) fn pull(repository: &str) -> Self {
        Self(BTreeSet::from([format!("repository:{repository}:pull")]))
    }

    /// Writing to `repository`.
    pub(super) fn push(repository: &str) -> Self {
        Self(BTreeSet::from([format!(
            "repository:{repository}:pull,push"
        )]))
    }

    /// Reading from another repository too.
    pub(super) fn and_pull(mut self, repository: &str) -> Self {
        self.0.insert(format!("repository:{repository}:pull"));
        self
    }

    fn and_all(mut self, scopes: &[String]) -> Self {
        self.0.extend(scopes.iter().cloned());
        self
    }
}

/// What is known about logging in, for all hosts.
#[derive(Debug, Default)]
pub(super) struct Logins {
    hosts: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Login>>>>,
}

/// What is known about one host. Locked while a token is fetched, so that many requests fetch it once.
#[derive(Debug, Default)]
pub(super) struct Login {
    challenge: Option<Challenge>,
    tokens: HashMap<Scopes, Token>,
    credentials: HashMap<String, Lookup>,
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    usable_until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Logins {
    pub(super) fn of(&self, host: &str) -> Arc<tokio::sync::Mutex<Login>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(host.to_owned()).or_default().clone()
    }
}

impl Client {
    /// The `Authorization` for a request, as far as it is known without being asked.
    pub(super) async fn authorization(
        &self,
        target: &Target,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, Error> {
        let login = self.inner.logins.of(target.endpoint.host());
        let mut login = login.lock().await;
        match login.challenge.clone() {
            None => Ok(None),
            Some(challenge) => self.answer(&mut login, target, scopes, &challenge).await,
        }
    }

    /// The `Authorization` for a request that was refused with `used`; `None` when there is nothing better to offer.
    pub(super) async fn authorization_after_refusal(
        &self,
        target: &Target,
        scopes: &Scopes,
        refusal: &HeaderMap,
        used: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let Some(challenge) = challenge::choose(refusal) else {
            return Ok(None);
        };
        let login = self.inner.logins.of(target.endpoint.host());
        let mut login = login.lock().await;
        login.challenge = Some(challenge.clone());
        if used.is_some() {
            // Helpers hand out credentials that expire.
            login.credentials.remove(&target.credential_key());
        }
        // Another request may have replaced the refused token meanwhile.
        login.tokens.retain(|_, token| Some(&token.header) != used);
        let header = self.answer(&mut login, target, scopes, &challenge).await?;
        if header.as_ref() != used {
            return Ok(header);
        }
        Ok(None)
    }

    /// Where the credentials for `target` come from, and what is likely wrong with them.
    pub(super) async fn credentials(&self, target: &Target) -> Result<Lookup, Error> {
        let login = self.inner.logins.of(target.endpoint.host());
        let mut login = login.lock().await;
        self.lookup(&mut login, target).await
    }

    async fn lookup(&self, login: &mut Login, target: &Target) -> Result<Lookup, Error> {
        if let Some(known) = login.credentials.get(&target.credential_key()) {
            return Ok(known.clone());
        }
        let mut answer = Lookup::default();
        for host in &target.credential_hosts {
            let found = self
                .inner
                .keychain
                .lookup(host, &target.named_repository)
                .await
                .map_err(|source| Error::Credential {
                    host: host.clone(),
                    source: Box::new(source),
                })?;
            answer.hint = answer.hint.or(found.hint.clone());
            if found.credential.is_some() {
                answer = found;
                break;
            }
            let found = cloud::lookup(self, self.inner.keychain.built_ins(), host).await;
            answer.hint = answer.hint.or(found.hint.clone());
            if found.credential.is_some() {
                answer = found;
                break;
            }
        }
        login
            .credentials
            .insert(target.credential_key(), answer.clone());
        Ok(answer)
    }

    async fn answer(
        &self,
        login: &mut Login,
        target: &Target,
        scopes: &Scopes,
        challenge: &Challenge,
    ) -> Result<Option<HeaderValue>, Error> {
        let lookup = self.lookup(login, target).await?;
        let credential = lookup.credential.clone();
        if let Some(Credential::Bearer(token)) = &credential {
            return Ok(secret(&format!("Bearer {token}")));
        }
        match challenge {
            Challenge::Basic => Ok(match &credential {
                Some(Credential::Basic { username, password }) => basic(username, password),
                _ => None,
            }),
            Challenge::Bearer {
                realm,
                service,
                scope,
                error,
            } => {
                if let Some(token) = login
                    .tokens
                    .get(scopes)
                    .filter(|token| Instant::now() < token.usable_until)
                {
                    return Ok(Some(token.header.clone()));
                }
                // A token for our scopes did not do: ask for what the registry names, too.
                let asked = if error.is_some() || scopes.0.is_empty() {
                    scopes.clone().and_all(scope)
                } else {
                    scopes.clone()
                };
                let request = TokenRequest {
                    realm,
                    service: service.as_deref(),
                    scopes: &asked,
                };
                let token = self.fetch_token(target, &request, &lookup).await?;
                login.tokens.insert(scopes.clone(), token.clone());
                Ok(Some(token.header))
            }
        }
    }

    async fn fetch_token(
        &self,
        target: &Target,
        request: &TokenRequest<'_>,
        lookup: &Lookup,
    ) -> Result<Token, Error> {
        let credential = lookup.credential.as_ref();
        let url = self.token_server(target, request.realm).await?;
        let started = Instant::now();
        let outgoing = match credential {
            Some(Credential::Identity(token)) => request.grant(
                &url,
                &[("grant_type", "refresh_token"), ("refresh_token", token)],
            ),
            Some(Credential::Basic { username, password }) => {
                request.get(&url, Some((username, password)))
            }
            Some(Credential::Bearer(_)) | None => request.get(&url, None),
        };
        let mut answer = self.exchange(&outgoing, &self.inner.settings.retry).await?;
        // Some token servers know the OAuth2 form only.
        if let Some(Credential::Basic { username, password }) = credential
            && matches!(
                answer.status,
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
            )
        {
            let grant = [
                ("grant_type", "password"),
                ("username", username.as_str()),
                ("password", password.as_str()),
            ];
            answer = self
                .exchange(&request.grant(&url, &grant), &self.inner.settings.retry)
                .await?;
        }
        if answer.status != StatusCode::OK {
            return Err(answer.into_refusal(target, lookup.clone()).await);
        }
        let action = answer.action.clone();
        let body = answer.bytes(1 << 20).await?;
        let protocol = |problem: String| Error::Protocol {
            action: action.clone(),
            problem,
        };
        let parsed: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|error| protocol(format!("it is no token ({error})")))?;
        let value = [parsed.token, parsed.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty());
        let value = value
            .ok_or_else(|| protocol("it has neither \"token\" nor \"access_token\"".to_owned()))?;
        let header = secret(&format!("Bearer {value}")).ok_or_else(|| {
            protocol("the token has characters that no header may have".to_owned())
        })?;
        let lifetime = Duration::from_secs(
            parsed
                .expires_in
                .filter(|seconds| *seconds > 0)
                .unwrap_or(DEFAULT_LIFETIME),
        );
        Ok(Token {
            header,
            usable_until: started + lifetime - MARGIN.min(lifetime / 5),
        })
    }

    /// The realm as a URL. A registry on https cannot send credentials to a token server on http.
    async fn token_server(&self, target: &Target, realm: &str) -> Result<Url, Error> {
        let base = self.base(&target.endpoint, self.retry()).await?;
        let protocol = |problem: String| Error::Protocol {
            action: format!("GET {base}v2/"),
            problem,
        };
        let url = base
            .join(realm)
            .map_err(|_| protocol(format!("its token server \"{realm}\" is no URL")))?;
        if url.scheme() != "https"
            && base.scheme() == "https"
            && !plain_allowed(&self.inner.settings, &url)
        {
            return Err(protocol(format!(
                "its token server {} does not use https",
                super::redacted(&url)
            )));
        }
        Ok(url)
    }
}

struct TokenRequest<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scopes: &'a Scopes,
}

impl TokenRequest<'_> {
    fn get(&self, url: &Url, basic_auth: Option<(&str, &str)>) -> Outgoing {
        let mut url = url.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.map(|service| ("service", service)));
            query.extend_pairs(self.scopes.0.iter().map(|scope| ("scope", scope)));
            query.extend_pairs(basic_auth.map(|(username, _)| ("account", username)));
        }
        let mut headers = HeaderMap::new();
        headers.extend(
            basic_auth
                .and_then(|(user, password)| basic(user, password))
                .map(|value| (AUTHORIZATION, value)),
        );
        Outgoing {
            method: Method::GET,
            url,
            headers,
            body: Body::Empty,
        }
    }

    fn grant(&self, url: &Url, grant: &[(&str, &str)]) -> Outgoing {
        let scope = self
            .scopes
            .0
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        let mut form = Serializer::new(String::new());
        form.extend_pairs(grant)
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &scope);
        form.extend_pairs(self.service.map(|service| ("service", service)));
        let headers = HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )]);
        Outgoing {
            method: Method::POST,
            url: url.clone(),
            headers,
            body: Body::Bytes(form.finish().into()),
        }
    }
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let encoded =
        base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    secret(&format!("Basic {encoded}"))
}

/// A header value that debug output does not show.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
