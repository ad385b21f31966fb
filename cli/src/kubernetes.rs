//! The way to the cluster: kubeconfig files, the context, the client.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::env::Environment;
use crate::error::{CommandError, Kind};

/// What the kubeconfig files say together.
#[derive(Debug, Clone)]
pub struct Kubeconfigs {
    /// The merged files.
    pub merged: Kubeconfig,
    /// The context in effect, where one is.
    pub context: Option<String>,
}

/// Reads the kubeconfig: the given file, else those of `$KUBECONFIG`, else
/// `~/.kube/config`. `None` when there is none, as on a machine without a
/// cluster or inside a pod.
pub fn read(
    env: &Environment,
    given: Option<&Path>,
    context: Option<&str>,
) -> Result<Option<Kubeconfigs>, CommandError> {
    let mut merged: Option<Kubeconfig> = None;
    for file in files(env, given) {
        let found = match Kubeconfig::read_from(&file) {
            Ok(found) => found,
            Err(_) if given.is_none() && !file.exists() => continue,
            Err(error) => {
                let message = format!("cannot read the kubeconfig {}", file.display());
                let mut failure = CommandError::from_error(Kind::Cluster, &error);
                failure.failures[0].causes.insert(0, error.to_string());
                failure.failures[0].message = message;
                return Err(failure);
            }
        };
        merged = Some(match merged {
            None => found,
            Some(first) => first
                .merge(found)
                .map_err(|error| CommandError::from_error(Kind::Cluster, &error))?,
        });
    }
    let Some(merged) = merged else {
        return Ok(None);
    };
    let context = match context {
        Some(name) => Some(name.to_owned()),
        None => merged
            .current_context
            .clone()
            .filter(|name| !name.is_empty()),
    };
    Ok(Some(Kubeconfigs { merged, context }))
}

fn files(env: &Environment, given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(file) = given {
        return vec![file.to_owned()];
    }
    if let Some(list) = env.var("KUBECONFIG") {
        return std::env::split_paths(list)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
    }
    env.home
        .iter()
        .map(|home| home.join(".kube/config"))
        .collect()
}

/// A client and the context's namespace.
#[derive(Clone)]
pub struct Connected {
    /// The client.
    pub client: kube::Client,
    /// The context's namespace, `default` when it names none.
    pub namespace: String,
    /// The context's name.
    pub context: String,
    /// The user that the context authenticates as, for labels.
    pub user: Option<String>,
}

/// Makes a client for the context. A context that does not exist is an error
/// that lists those that do.
pub async fn connect(kubeconfigs: Option<&Kubeconfigs>) -> Result<Connected, CommandError> {
    let Some(kubeconfigs) = kubeconfigs else {
        return in_cluster();
    };
    let Some(context) = &kubeconfigs.context else {
        return Err(
            CommandError::new(Kind::Cluster, "the kubeconfig has no current context")
                .hint("name one with --kube-context"),
        );
    };
    let known: Vec<&str> = kubeconfigs
        .merged
        .contexts
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    if !known.contains(&context.as_str()) {
        let message = format!("the kubeconfig has no context {context}");
        return Err(
            CommandError::new(Kind::Cluster, message).hint(format!("it has: {}", known.join(", ")))
        );
    }
    let options = KubeConfigOptions {
        context: Some(context.clone()),
        ..Default::default()
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfigs.merged.clone(), &options)
        .await
        .map_err(|error| CommandError::from_error(Kind::Cluster, &error))?;
    let namespace = config.default_namespace.clone();
    let user = kubeconfigs
        .merged
        .contexts
        .iter()
        .find(|c| c.name == *context)
        .and_then(|c| c.context.as_ref()?.user.clone());
    let client = kube::Client::try_from(config)
        .map_err(|error| CommandError::from_error(Kind::Cluster, &error))?;
    Ok(Connected {
        client,
        namespace,
        context: context.clone(),
        user,
    })
}

/// Inside a pod the service account leads to the cluster, as in kubectl.
fn in_cluster() -> Result<Connected, CommandError> {
    let config = kube::Config::incluster().map_err(|_| {
        CommandError::new(Kind::Cluster, "there is no kubeconfig")
            .hint("create one, or name it with --kubeconfig or $KUBECONFIG")
    })?;
    let namespace = config.default_namespace.clone();
    let client = kube::Client::try_from(config)
        .map_err(|error| CommandError::from_error(Kind::Cluster, &error))?;
    Ok(Connected {
        client,
        namespace,
        context: "in-cluster".into(),
        user: None,
    })
}
