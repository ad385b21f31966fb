//! What is in the cluster, read and made through its API.

use std::collections::BTreeSet;

use kiln_test_cluster::Cluster;
use serde_json::{Value, json};

/// One request to the API server: its status code and answer.
fn request(cluster: &Cluster, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let bytes = body
        .map(|b| serde_json::to_vec(b).expect("JSON"))
        .unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(bytes)
        .expect("a request");
    let answer = cluster.with_client(async |client| Ok(client.request::<Value>(request).await));
    match answer.expect("the cluster runs") {
        Ok(value) => (200, value),
        Err(kube::Error::Api(status)) => (status.code, Value::String(status.message.clone())),
        Err(error) => panic!("{method} {path}: {error}"),
    }
}

/// Makes a namespace unless it is there.
pub fn namespace(cluster: &Cluster, name: &str) {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let (code, answer) = request(cluster, "POST", "/api/v1/namespaces", Some(&body));
    assert!(code == 200 || code == 409, "{answer}");
}

/// Makes an opaque secret unless it is there.
pub fn secret(cluster: &Cluster, namespace: &str, name: &str, data: &[(&str, &str)]) {
    let text: Value = data
        .iter()
        .map(|(k, v)| ((*k).to_owned(), json!(v)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": text,
    });
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    let (code, answer) = request(cluster, "POST", &path, Some(&body));
    assert!(code == 200 || code == 409, "{answer}");
}

/// Makes an object unless it is there.
pub fn create(cluster: &Cluster, path: &str, object: &Value) {
    let (code, answer) = request(cluster, "POST", path, Some(object));
    assert!(code == 200 || code == 409, "{path}: {answer}");
}

/// A path of the API as JSON.
pub fn get(cluster: &Cluster, path: &str) -> Value {
    let (code, answer) = request(cluster, "GET", path, None);
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

/// Items of a kind in a namespace.
pub fn list(cluster: &Cluster, namespace: &str, plural: &str) -> Vec<Value> {
    let base = match plural {
        "deployments" | "statefulsets" | "daemonsets" | "replicasets" => "apis/apps/v1",
        "jobs" | "cronjobs" => "apis/batch/v1",
        _ => "api/v1",
    };
    let answer = get(cluster, &format!("/{base}/namespaces/{namespace}/{plural}"));
    answer["items"].as_array().cloned().unwrap_or_default()
}

/// Names of a kind in a namespace, without those that are being deleted.
pub fn names(cluster: &Cluster, namespace: &str, plural: &str) -> BTreeSet<String> {
    list(cluster, namespace, plural)
        .iter()
        .filter(|item| item["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// Fails when a pod that Kiln made for a build is still there.
pub fn no_build_pods(cluster: &Cluster, namespace: &str) {
    let left: Vec<String> = list(cluster, namespace, "pods")
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kiln")
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    assert!(left.is_empty(), "build pods are left: {left:?}");
}

/// The cluster IP of a service.
pub fn service_address(cluster: &Cluster, namespace: &str, name: &str) -> String {
    let service = get(
        cluster,
        &format!("/api/v1/namespaces/{namespace}/services/{name}"),
    );
    service["spec"]["clusterIP"]
        .as_str()
        .expect("a cluster IP")
        .to_owned()
}

/// The images of a deployment's containers.
pub fn images(cluster: &Cluster, namespace: &str, deployment: &str) -> Vec<String> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}");
    let containers = get(cluster, &path)["spec"]["template"]["spec"]["containers"].clone();
    let containers = containers.as_array().cloned().unwrap_or_default();
    containers
        .iter()
        .filter_map(|c| c["image"].as_str().map(str::to_owned))
        .collect()
}

/// Deletes an object unless it is gone.
pub fn delete(cluster: &Cluster, path: &str) {
    let (code, answer) = request(cluster, "DELETE", path, None);
    assert!(code == 200 || code == 404, "{path}: {answer}");
}

/// The log of a pod with one container; what keeps it from being read in place of it.
pub fn log(cluster: &Cluster, namespace: &str, pod: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log");
    let request = http::Request::builder()
        .uri(path)
        .body(Vec::new())
        .expect("a request");
    let text = cluster.with_client(async |client| Ok(client.request_text(request).await));
    match text.expect("the cluster runs") {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}
