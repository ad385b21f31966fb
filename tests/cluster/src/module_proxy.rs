//! A Go module proxy in the cluster: a file server over the machine's own download
//! cache, which has the layout that the GOPROXY protocol asks for.

use std::path::Path;

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Pod, Service};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::api::{Progress, failed, wait_for};
use crate::error::Error;

const NAME: &str = "athens";

/// Starts the proxy if it is not there, and waits until it answers for its service.
/// `downloads` is the machine's `$GOMODCACHE/cache/download`.
pub(crate) async fn start(client: Client, downloads: &Path) -> Result<(), Error> {
    let apply = PatchParams::apply("kiln-test-cluster").force();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .patch(NAME, &apply, &Patch::Apply(&namespace))
        .await
        .map_err(failed("create the namespace of the module proxy"))?;
    wait_for_default_account(&client, NAME).await?;

    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "files",
                "image": "busybox",
                "imagePullPolicy": "IfNotPresent",
                "command": ["httpd", "-f", "-p", "8080", "-h", "/modules"],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                "volumeMounts": [{"name": "modules", "mountPath": "/modules", "readOnly": true}],
            }],
            "volumes": [{
                "name": "modules",
                "hostPath": {"path": downloads, "type": "DirectoryOrCreate"},
            }],
        },
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAME);
    pods.patch(NAME, &apply, &Patch::Apply(&pod))
        .await
        .map_err(failed("create the pod of the module proxy"))?;
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let services: Api<Service> = Api::namespaced(client.clone(), NAME);
    services
        .patch(NAME, &apply, &Patch::Apply(&service))
        .await
        .map_err(failed("create the service of the module proxy"))?;
    let endpoints: Api<Endpoints> = Api::namespaced(client, NAME);
    wait_for("an endpoint of the module proxy", || async {
        let found = endpoints
            .get_opt(NAME)
            .await
            .map_err(failed("read the endpoints of the module proxy"))?;
        let subsets = found.and_then(|found| found.subsets).unwrap_or_default();
        let ready = subsets.iter().any(|subset| subset.addresses.is_some());
        Ok(Progress::when(ready, format!("{subsets:?}")))
    })
    .await
}

/// Waits for the account without which a namespace takes no pods.
pub(crate) async fn wait_for_default_account(
    client: &Client,
    namespace: &str,
) -> Result<(), Error> {
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(client.clone(), namespace);
    let what = format!("the default service account of {namespace}");
    wait_for(&what, || async {
        let found = accounts
            .get_opt("default")
            .await
            .map_err(failed("read a service account"))?;
        Ok(Progress::when(found.is_some(), "none"))
    })
    .await
}
