//! Who may do what: nobody is asked, a password each time, or tokens (distribution, "Token Authentication").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::reply::Problem;
use super::token::{Claims, Key};

/// Who may use a registry.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// Everyone, for everything.
    #[default]
    Open,
    /// Users with passwords.
    Protected(Protection),
}

/// Users with passwords.
#[derive(Debug, Clone)]
pub struct Protection {
    /// How they log in.
    pub scheme: Scheme,
    /// Who there is.
    pub users: Vec<User>,
    /// What everybody else may do.
    pub anonymous: Anonymous,
}

/// How users log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Name and password with each request.
    Basic,
    /// Name and password once, for a token that holds for five minutes and for what it was asked for.
    Token,
}

/// What those may do who do not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    Nothing,
    /// Pull.
    Pull,
}

/// Someone with a password.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Password,
    /// What is allowed.
    pub rights: Rights,
}

/// A password, in clear or as its hash.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// As it is typed.
    Plain(String),
    /// As `htpasswd -B` writes it.
    Bcrypt(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Pull.
    Pull,
    /// Pull, push, delete, list repositories.
    All,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
    Catalog,
}

/// Why a file of users cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// A line that is not `name:hash`.
    #[error("line {0} of the users is not of the form name:hash")]
    Line(usize),
    /// A hash that is not bcrypt.
    #[error("the password of `{0}` is not hashed with bcrypt: use `htpasswd -B`")]
    Hash(String),
}

impl User {
    /// Reads users from a file as `htpasswd -B` writes it, each with all rights.
    ///
    /// # Errors
    /// [`UsersError`] with the line or the name.
    pub fn from_htpasswd(text: &str) -> Result<Vec<Self>, UsersError> {
        let mut users = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or(UsersError::Line(number + 1))?;
            if !hash.starts_with("$2") {
                return Err(UsersError::Hash(name.to_owned()));
            }
            users.push(Self {
                name: name.to_owned(),
                password: Password::Bcrypt(hash.to_owned()),
                rights: Rights::All,
            });
        }
        Ok(users)
    }

    fn is_password(&self, text: &str) -> bool {
        match &self.password {
            Password::Plain(password) => aws_lc_rs::constant_time::verify_slices_are_equal(
                password.as_bytes(),
                text.as_bytes(),
            )
            .is_ok(),
            Password::Bcrypt(hash) => bcrypt::verify(text, hash).unwrap_or(false),
        }
    }
}

/// Checks requests.
#[derive(Debug)]
pub(super) struct Guard {
    access: Access,
    pub(super) key: Key,
}

impl Guard {
    pub(super) fn new(access: Access) -> Option<Self> {
        Some(Self {
            access,
            key: Key::random()?,
        })
    }

    pub(super) fn protection(&self) -> Option<&Protection> {
        match &self.access {
            Access::Open => None,
            Access::Protected(protection) => Some(protection),
        }
    }

    /// Lets a request through that may do what it `needs`, or says what would help.
    pub(super) async fn check(
        &self,
        headers: &HeaderMap,
        needs: &[(String, Action)],
        origin: &str,
    ) -> Result<(), Problem> {
        let Some(protection) = self.protection() else {
            return Ok(());
        };
        match protection.scheme {
            Scheme::Basic => basic(protection, headers, needs).await,
            Scheme::Token => self.token(protection, headers, needs, origin),
        }
    }

    fn token(
        &self,
        protection: &Protection,
        headers: &HeaderMap,
        needs: &[(String, Action)],
        origin: &str,
    ) -> Result<(), Problem> {
        let claims = bearer(headers).and_then(|token| self.key.open(token));
        let may = claims.as_ref().is_some_and(|claims| {
            claims.kind == Claims::ACCESS
                && needs
                    .iter()
                    .all(|(repository, action)| claims.allows(repository, *action))
        });
        if may {
            return Ok(());
        }
        let only_pulls = needs.iter().all(|(_, action)| *action == Action::Pull);
        if claims.is_none()
            && bearer(headers).is_none()
            && protection.anonymous == Anonymous::Pull
            && only_pulls
            && !needs.is_empty()
        {
            return Ok(());
        }
        let scopes: Vec<String> = needs
            .iter()
            .map(|(repository, action)| scope(repository, *action))
            .collect();
        let mut challenge = format!("Bearer realm=\"{origin}/token\",service=\"kiln-registry\"");
        if !scopes.is_empty() {
            challenge.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        if bearer(headers).is_some() {
            let error = if claims.is_some() {
                "insufficient_scope"
            } else {
                "invalid_token"
            };
            challenge.push_str(&format!(",error=\"{error}\""));
        }
        Err(Problem::Unauthorized { challenge })
    }
}

/// `repository:<name>:<actions>` as tokens have it.
fn scope(repository: &str, action: Action) -> String {
    match action {
        Action::Pull => format!("repository:{repository}:pull"),
        Action::Push => format!("repository:{repository}:pull,push"),
        Action::Catalog => "registry:catalog:*".to_owned(),
    }
}

async fn basic(
    protection: &Protection,
    headers: &HeaderMap,
    needs: &[(String, Action)],
) -> Result<(), Problem> {
    let challenge = || Problem::Unauthorized {
        challenge: "Basic realm=\"kiln-registry\"".to_owned(),
    };
    let only_pulls = needs.iter().all(|(_, action)| *action == Action::Pull);
    let Some((name, password)) = basic_login(headers) else {
        let may = protection.anonymous == Anonymous::Pull && only_pulls && !needs.is_empty();
        return if may { Ok(()) } else { Err(challenge()) };
    };
    let user = find(protection, &name, password)
        .await
        .ok_or_else(challenge)?;
    if user.rights == Rights::All || only_pulls {
        Ok(())
    } else {
        Err(Problem::Denied(name))
    }
}

/// The user with this name and password. A hash takes its time, so that it is computed aside.
pub(super) async fn find(protection: &Protection, name: &str, password: String) -> Option<User> {
    let user = protection
        .users
        .iter()
        .find(|user| user.name == name)?
        .clone();
    let checked = tokio::task::spawn_blocking(move || user.is_password(&password).then_some(user));
    checked.await.ok().flatten()
}

/// Name and password of a request.
pub(super) fn basic_login(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
