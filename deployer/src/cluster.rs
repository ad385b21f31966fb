//! The API server as this crate sees it: a client and what the server serves.

use std::sync::{Arc, Mutex, PoisonError};

use kube::api::DynamicObject;
use kube::core::Status;
use kube::core::gvk::GroupVersionKind;
use kube::discovery::{ApiResource, Scope};
use kube::{Api, Client, Discovery};

use crate::object::Object;

/// One cluster and the namespace that objects without one go to.
///
/// What the server serves is asked once and again when a kind is unknown, so
/// keep one of these for a whole session. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: Arc<str>,
    served: Arc<Mutex<Option<Arc<Discovery>>>>,
}

/// A request that the API server did not fulfil.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server answered with an error.
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
    /// There was no answer, or none that can be read.
    #[error("the request to the API server failed")]
    Failed(#[source] Box<kube::Error>),
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Failed(Box::new(other)),
        }
    }
}

impl RequestError {
    /// The server's answer, if it gave one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) => Some(status),
            Self::Failed(_) => None,
        }
    }

    /// Whether the object or its kind does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Whether the user lacks the right.
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(Status::is_forbidden)
    }
}

fn refusal(status: &Status) -> String {
    let words = if status.message.is_empty() {
        &status.reason
    } else {
        &status.message
    };
    format!("the API server refused: {words}")
}

/// What a kind is called in requests, and where its objects live.
#[derive(Debug, Clone)]
pub struct Served {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Namespaced or cluster-scoped.
    pub scope: Scope,
}

impl Served {
    /// Whether its objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

impl Cluster {
    /// A cluster behind `client`; `namespace` is for objects that name none.
    pub fn new(client: Client, namespace: impl Into<Arc<str>>) -> Self {
        Self {
            client,
            namespace: namespace.into(),
            served: Arc::default(),
        }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace for objects that name none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same cluster and its memory with another default namespace.
    #[must_use]
    pub fn with_namespace(&self, namespace: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            ..self.clone()
        }
    }

    /// Looks a kind up; asks the server again when it was not known. `None`
    /// when the server does not serve it.
    pub async fn find(&self, kind: &GroupVersionKind) -> Result<Option<Served>, RequestError> {
        let known = self.remembered();
        if let Some(served) = known.as_deref().and_then(|served| lookup(served, kind)) {
            return Ok(Some(served));
        }
        Ok(lookup(&*self.discover().await?, kind))
    }

    /// Looks a kind up by group and kind, in the version that the server
    /// prefers.
    pub async fn find_group_kind(
        &self,
        group: &str,
        kind: &str,
    ) -> Result<Option<Served>, RequestError> {
        let by_kind = |served: &Discovery| {
            let (resource, capabilities) = served.get(group)?.recommended_kind(kind)?;
            Some(Served {
                resource,
                scope: capabilities.scope,
            })
        };
        if let Some(served) = self.remembered().as_deref().and_then(by_kind) {
            return Ok(Some(served));
        }
        Ok(by_kind(&*self.discover().await?))
    }

    /// Looks a kind up as a person names it: `Deployment`, `deployments`,
    /// `deployment` or `deployments.apps`, without regard to case.
    pub async fn find_by_word(&self, word: &str) -> Result<Option<Served>, RequestError> {
        if let Some(served) = self
            .remembered()
            .as_deref()
            .and_then(|known| by_word(known, word))
        {
            return Ok(Some(served));
        }
        Ok(by_word(&*self.discover().await?, word))
    }

    /// Forgets what is served, as after a CustomResourceDefinition appeared.
    pub fn forget_kinds(&self) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The API for objects of a kind in a namespace; the namespace is ignored
    /// for cluster-scoped kinds, and absent means the default one.
    pub fn api(&self, served: &Served, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.client.clone();
        if served.is_namespaced() {
            let namespace = namespace.unwrap_or(&self.namespace);
            Api::namespaced_with(client, namespace, &served.resource)
        } else {
            Api::all_with(client, &served.resource)
        }
    }

    /// The group, version and kind of an object.
    pub fn kind_of(object: &Object) -> GroupVersionKind {
        GroupVersionKind::gvk(object.group(), object.version(), object.kind())
    }

    fn remembered(&self) -> Option<Arc<Discovery>> {
        self.served
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn discover(&self) -> Result<Arc<Discovery>, RequestError> {
        let found = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(found) => found,
            // Servers before 1.26 do not know aggregated discovery.
            Err(kube::Error::SerdeError(_)) => Discovery::new(self.client.clone()).run().await?,
            Err(kube::Error::Api(status)) if status.code == 406 => {
                Discovery::new(self.client.clone()).run().await?
            }
            Err(error) => return Err(error.into()),
        };
        let found = Arc::new(found);
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn lookup(served: &Discovery, kind: &GroupVersionKind) -> Option<Served> {
    let (resource, capabilities) = served.resolve_gvk(kind)?;
    Some(Served {
        resource,
        scope: capabilities.scope,
    })
}

/// The core group and `apps` come first, as two groups may serve one name.
fn by_word(served: &Discovery, word: &str) -> Option<Served> {
    let (name, wanted) = word
        .split_once('.')
        .map_or((word, None), |(name, group)| (name, Some(group)));
    let mut groups = served.groups_alphabetical();
    groups.sort_by_key(|group| !matches!(group.name(), "" | "core" | "apps"));
    groups
        .into_iter()
        .filter(|group| wanted.is_none_or(|wanted| group.name() == wanted))
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
        .find(|(resource, _)| {
            resource.kind.eq_ignore_ascii_case(name) || resource.plural.eq_ignore_ascii_case(name)
        })
        .map(|(resource, capabilities)| Served {
            resource,
            scope: capabilities.scope,
        })
}
