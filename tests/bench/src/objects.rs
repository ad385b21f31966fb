//! The few objects that a measurement needs, through the API.

use std::time::{Duration, Instant};

use kiln_test_cluster::Cluster;
use kube::Client;
use serde_json::{Value, json};

use crate::error::Error;

/// How long a rollout may take before it counts as stuck. Not a claim about
/// speed.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often a rollout is looked at: the error of a measurement.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A deployment and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
}

impl Workload {
    fn collection(self) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace)
    }

    fn path(self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }
}

/// Makes a namespace unless it is there.
pub fn namespace(cluster: &Cluster, name: &str) -> Result<(), Error> {
    create(
        cluster,
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    )
}

/// Makes an opaque secret unless it is there.
pub fn secret(cluster: &Cluster, namespace: &str, name: &str, key: &str) -> Result<(), Error> {
    create(
        cluster,
        &format!("/api/v1/namespaces/{namespace}/secrets"),
        &json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name}, "stringData": {key: "{}"},
        }),
    )
}

/// Makes a deployment of one container with the probe that the examples have,
/// and waits until it is ready.
pub fn deployment(
    cluster: &Cluster,
    workload: Workload,
    image: &str,
    command: &[&str],
) -> Result<(), Error> {
    let labels = json!({"app": workload.name});
    let body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": workload.name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "app", "image": image, "command": command,
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            }]}},
        },
    });
    create(cluster, &workload.collection(), &body)?;
    wait_for(cluster, workload, |_| true)
}

/// Gives the deployment's only container another image and waits until that
/// runs; returns how long both took.
pub fn roll_out(cluster: &Cluster, workload: Workload, image: &str) -> Result<Duration, Error> {
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "app", "image": image},
    ]}}}});
    with_client(cluster, async |client| {
        let started = Instant::now();
        request(&client, "PATCH", &workload.path(), Some(&patch)).await?;
        rolled_out_with(&client, workload, |_| true).await?;
        Ok(started.elapsed())
    })
}

/// Waits until the deployment is ready with an image that `wanted` accepts.
pub fn wait_for(
    cluster: &Cluster,
    workload: Workload,
    wanted: impl Fn(&str) -> bool + Send + Sync,
) -> Result<(), Error> {
    with_client(cluster, async |client| {
        rolled_out_with(&client, workload, &wanted).await
    })
}

/// The image of the deployment's first container, and whether all of it is
/// ready now.
pub fn image_and_readiness(
    cluster: &Cluster,
    workload: Workload,
) -> Result<(String, Result<(), Error>), Error> {
    let object = with_client(cluster, async |client| {
        request(&client, "GET", &workload.path(), None).await
    })?;
    let ready = if rolled_out(&object) {
        Ok(())
    } else {
        Err(Error::NotReady {
            object: workload.name.to_owned(),
            status: object["status"].to_string(),
        })
    };
    Ok((image(&object).to_owned(), ready))
}

async fn rolled_out_with(
    client: &Client,
    workload: Workload,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let last = match request(client, "GET", &workload.path(), None).await {
            Ok(object) if rolled_out(&object) && wanted(image(&object)) => return Ok(()),
            Ok(object) => object["status"].to_string(),
            // A peer makes it in its own time.
            Err(error) => crate::error::chain(&error),
        };
        if started.elapsed() > PATIENCE {
            let object = workload.name.to_owned();
            return Err(Error::NotReady {
                object,
                status: last,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The rule of `kubectl rollout status`, plus "and nothing older is left".
fn rolled_out(deployment: &Value) -> bool {
    let status = &deployment["status"];
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let seen =
        status["observedGeneration"].as_i64() >= deployment["metadata"]["generation"].as_i64();
    seen && ["replicas", "updatedReplicas", "availableReplicas"]
        .iter()
        .all(|field| status[*field].as_i64().unwrap_or(0) == wanted)
}

fn image(deployment: &Value) -> &str {
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    containers[0]["image"].as_str().unwrap_or_default()
}

fn create(cluster: &Cluster, collection: &str, body: &Value) -> Result<(), Error> {
    let made = with_client(cluster, async |client| {
        request(&client, "POST", collection, Some(body)).await
    });
    match made {
        Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 409) => {
            Ok(())
        }
        other => other.map(drop),
    }
}

fn with_client<T: Send>(
    cluster: &Cluster,
    work: impl AsyncFnOnce(Client) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    cluster.with_client(async |client| Ok(work(client).await))?
}

async fn request(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Error> {
    let kind = match method {
        "PATCH" => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let failed = |source: kube::Error| Error::Api {
        action: format!("{method} {path}"),
        source: Box::new(source),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(
            body.map(|body| body.to_string().into_bytes())
                .unwrap_or_default(),
        )
        .map_err(|error| failed(kube::Error::HttpError(error)))?;
    client.request::<Value>(request).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_rolled_out_when_only_new_pods_are_there_and_ready() {
        let with = |observed: i64, replicas: i64, updated: i64, available: i64| {
            rolled_out(&json!({
                "metadata": {"generation": 3}, "spec": {"replicas": 1},
                "status": {
                    "observedGeneration": observed, "replicas": replicas,
                    "updatedReplicas": updated, "availableReplicas": available,
                },
            }))
        };
        assert!(with(3, 1, 1, 1));
        assert!(
            !with(2, 1, 1, 1),
            "the controller has not seen the new template"
        );
        assert!(!with(3, 2, 1, 1), "an old pod is left");
        assert!(!with(3, 1, 1, 0), "the new pod is not ready");
    }
}
