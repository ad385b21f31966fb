//! Tokens: signed by this process, for a user, a time and what they were asked for.
//!
//! Sources: distribution, "Token Authentication" (GET) and "OAuth2 Token Authentication" (POST). What is inside of a
//! token is nobody's business but ours, so that it needs no certificate: a MAC is enough.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{Action, Anonymous, Guard, Protection, Rights, basic_login, find};
use super::reply::{self, Problem, ReplyBody};

/// Seconds for which a token holds.
const LIFETIME: u64 = 300;
/// Seconds for which a refresh token holds.
const REFRESH_LIFETIME: u64 = 24 * 3600;
/// The longest form that is read.
const FORM: usize = 64 * 1024;

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) kind: String,
    user: Option<String>,
    until: u64,
    scopes: Vec<String>,
}

impl Claims {
    pub(super) const ACCESS: &'static str = "access";
    const REFRESH: &'static str = "refresh";

    /// Whether the token is good for this.
    pub(super) fn allows(&self, repository: &str, action: Action) -> bool {
        self.scopes.iter().any(|scope| match action {
            Action::Catalog => scope == "registry:catalog:*",
            Action::Pull => *scope == format!("repository:{repository}:pull"),
            Action::Push => *scope == format!("repository:{repository}:push"),
        })
    }
}

/// The key of this process.
#[derive(Debug)]
pub(super) struct Key(hmac::Key);

impl Key {
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn sign(&self, claims: &Claims) -> String {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
        let mac = hmac::sign(&self.0, body.as_bytes());
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
    }

    /// The claims of a token that is ours and still holds.
    pub(super) fn open(&self, token: &str) -> Option<Claims> {
        let (body, mac) = token.split_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.0, body.as_bytes(), &mac).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        (now() < claims.until).then_some(claims)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// GET or POST `/token`.
pub(super) async fn answer(
    guard: &Guard,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Problem> {
    let Some(protection) = guard.protection() else {
        return Err(Problem::Path);
    };
    let login = basic_login(request.headers());
    let is_form = request.method() == Method::POST;
    let fields = if is_form {
        let body = Limited::new(request.into_body(), FORM).collect().await;
        let body = body.map_err(|_| Problem::UploadInvalid("this is no form".to_owned()))?;
        parse(&body.to_bytes())
    } else {
        parse(request.uri().query().unwrap_or_default().as_bytes())
    };
    let who = if is_form {
        grant(guard, protection, &fields).await?
    } else {
        match login {
            Some((name, password)) => Some(user(protection, &name, password).await?),
            None => None,
        }
    };
    let rights = match &who {
        Some((_, rights)) => Some(*rights),
        None if protection.anonymous == Anonymous::Pull => Some(Rights::Pull),
        None => return Err(refused()),
    };
    Ok(issue(guard, &fields, who.map(|(name, _)| name), rights))
}

fn issue(
    guard: &Guard,
    fields: &Fields,
    user: Option<String>,
    rights: Option<Rights>,
) -> Response<ReplyBody> {
    let asked = fields.get("scope").map(Vec::as_slice).unwrap_or_default();
    let scopes = asked
        .iter()
        .flat_map(|text| text.split(' '))
        .flat_map(|scope| granted(scope, rights))
        .collect();
    let claims = Claims {
        kind: Claims::ACCESS.to_owned(),
        user: user.clone(),
        until: now() + LIFETIME,
        scopes,
    };
    let token = guard.key.sign(&claims);
    let mut value = json!({"token": token, "access_token": token, "expires_in": LIFETIME});
    let first = |name: &str| {
        fields
            .get(name)
            .and_then(|values| values.first())
            .map(String::as_str)
    };
    let offline = first("offline_token") == Some("true") || first("access_type") == Some("offline");
    if offline && user.is_some() {
        let refresh = Claims {
            kind: Claims::REFRESH.to_owned(),
            user,
            until: now() + REFRESH_LIFETIME,
            scopes: Vec::new(),
        };
        value["refresh_token"] = json!(guard.key.sign(&refresh));
    }
    reply::json(200, value.to_string())
}

/// One scope per action that is asked for and allowed.
fn granted(scope: &str, rights: Option<Rights>) -> Vec<String> {
    let (Some((front, actions)), Some(rights)) = (scope.rsplit_once(':'), rights) else {
        return Vec::new();
    };
    let may = |action: &&str| match *action {
        "pull" => true,
        "push" | "delete" | "*" => rights == Rights::All,
        _ => false,
    };
    actions
        .split(',')
        .filter(may)
        .map(|action| format!("{front}:{action}"))
        .collect()
}

async fn grant(
    guard: &Guard,
    protection: &Protection,
    fields: &Fields,
) -> Result<Option<(String, Rights)>, Problem> {
    let first = |name: &str| {
        fields
            .get(name)
            .and_then(|values| values.first())
            .map_or("", String::as_str)
    };
    match first("grant_type") {
        "password" => {
            let password = first("password").to_owned();
            user(protection, first("username"), password)
                .await
                .map(Some)
        }
        "refresh_token" => {
            let claims = guard.key.open(first("refresh_token"));
            let name = claims
                .filter(|claims| claims.kind == Claims::REFRESH)
                .and_then(|claims| claims.user)
                .ok_or_else(refused)?;
            let known = protection.users.iter().find(|user| user.name == name);
            let user = known.ok_or_else(refused)?;
            Ok(Some((name, user.rights)))
        }
        _ => Err(refused()),
    }
}

async fn user(
    protection: &Protection,
    name: &str,
    password: String,
) -> Result<(String, Rights), Problem> {
    let user = find(protection, name, password).await.ok_or_else(refused)?;
    Ok((user.name, user.rights))
}

fn refused() -> Problem {
    Problem::Unauthorized {
        challenge: "Basic realm=\"kiln-registry\"".to_owned(),
    }
}

type Fields = HashMap<String, Vec<String>>;

fn parse(bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        fields
            .entry(name.into_owned())
            .or_default()
            .push(value.into_owned());
    }
    fields
}
