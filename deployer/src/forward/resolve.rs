//! From a resource to the pods behind it and the port in them.

use kiln_schemas::model::ForwardPort;
use serde_json::Value;

use super::{ForwardError, Target};
use crate::cluster::Cluster;

/// Pods, and a port in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub pods: Pods,
    pub port: ForwardPort,
}

/// Which pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pods {
    Named(String),
    /// A label selector in the API's textual form.
    Selected(String),
}

/// Reads the resource and finds its pods.
pub(super) async fn backend(cluster: &Cluster, target: &Target) -> Result<Backend, ForwardError> {
    let object = read(cluster, target).await?;
    match object["kind"].as_str() {
        Some("Pod") => Ok(Backend {
            pods: Pods::Named(target.name.clone()),
            port: target.port.clone(),
        }),
        Some("Service") => {
            let selector = equalities(&object["spec"]["selector"]);
            let port = service_port(&object, target)?;
            let pods = selected(target, selector)?;
            Ok(Backend {
                pods,
                port: target_port(port),
            })
        }
        _ => {
            let pods = selected(target, label_selector(&object["spec"]["selector"]))?;
            Ok(Backend {
                pods,
                port: target.port.clone(),
            })
        }
    }
}

/// The port of the resource as a number, for choosing a local one.
pub(super) async fn port_number(cluster: &Cluster, target: &Target) -> Result<u16, ForwardError> {
    let name = match &target.port {
        ForwardPort::Number(number) => return Ok(*number),
        ForwardPort::Name(name) => name,
    };
    let object = read(cluster, target).await?;
    if object["kind"] == "Service" {
        return number(&service_port(&object, target)?["port"]).ok_or_else(|| no_port(target, &[]));
    }
    let pod_spec = if object["kind"] == "Pod" {
        &object["spec"]
    } else {
        &object["spec"]["template"]["spec"]
    };
    container_port(pod_spec, name).ok_or_else(|| no_port(target, &[]))
}

/// The number of a container's port, by its name.
pub(super) fn container_port(pod_spec: &Value, name: &str) -> Option<u16> {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| list(&pod_spec[field]));
    let port = containers
        .flat_map(|container| list(&container["ports"]))
        .find(|port| port["name"] == name)?;
    number(&port["containerPort"])
}

async fn read(cluster: &Cluster, target: &Target) -> Result<Value, ForwardError> {
    let failed = |source| ForwardError::Request {
        resource: target.resource(),
        source,
    };
    let served = cluster.find_by_word(&target.kind).await.map_err(failed)?;
    let served = served.ok_or_else(|| ForwardError::Kind {
        resource: target.resource(),
        kind: target.kind.clone(),
    })?;
    let live = cluster
        .api(&served, Some(&target.namespace))
        .get_opt(&target.name)
        .await;
    let live = live
        .map_err(|error| failed(error.into()))?
        .ok_or_else(|| ForwardError::Absent {
            resource: target.resource(),
            namespace: target.namespace.clone(),
        })?;
    serde_json::to_value(live).map_err(|error| failed(kube::Error::SerdeError(error).into()))
}

fn service_port<'a>(service: &'a Value, target: &Target) -> Result<&'a Value, ForwardError> {
    let wanted = |port: &&Value| match &target.port {
        ForwardPort::Number(wanted) => port["port"] == *wanted,
        ForwardPort::Name(wanted) => port["name"] == wanted.as_str(),
    };
    let ports = list(&service["spec"]["ports"]);
    ports.clone().find(wanted).ok_or_else(|| {
        let described = ports.map(|port| match port["name"].as_str() {
            Some(name) => format!("{} ({name})", port["port"]),
            None => port["port"].to_string(),
        });
        no_port(target, &described.collect::<Vec<_>>())
    })
}

/// `targetPort` is a number or the name of a container's port; absent means
/// the service's own number.
fn target_port(service_port: &Value) -> ForwardPort {
    match (
        &service_port["targetPort"],
        number(&service_port["targetPort"]),
    ) {
        (Value::String(name), _) => ForwardPort::Name(name.clone()),
        (_, Some(port)) => ForwardPort::Number(port),
        (_, None) => ForwardPort::Number(number(&service_port["port"]).unwrap_or_default()),
    }
}

fn no_port(target: &Target, has: &[String]) -> ForwardError {
    let port = match &target.port {
        ForwardPort::Number(port) => port.to_string(),
        ForwardPort::Name(name) => format!("`{name}`"),
    };
    let has = if has.is_empty() {
        "none of that name".to_owned()
    } else {
        has.join(", ")
    };
    ForwardError::NoPort {
        resource: target.resource(),
        port,
        has,
    }
}

fn selected(target: &Target, selector: String) -> Result<Pods, ForwardError> {
    if selector.is_empty() {
        return Err(ForwardError::NoSelector {
            resource: target.resource(),
        });
    }
    Ok(Pods::Selected(selector))
}

/// A map of labels as a selector.
fn equalities(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let terms: Vec<_> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    terms.join(",")
}

/// `matchLabels` and `matchExpressions` as a selector; a plain map for kinds
/// that have that (ReplicationController).
fn label_selector(selector: &Value) -> String {
    if selector["matchLabels"].is_null() && selector["matchExpressions"].is_null() {
        return equalities(selector);
    }
    let expressions = list(&selector["matchExpressions"]).filter_map(|expression| {
        let key = expression["key"].as_str()?;
        let values: Vec<_> = list(&expression["values"])
            .filter_map(Value::as_str)
            .collect();
        Some(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        })
    });
    let labels = Some(equalities(&selector["matchLabels"])).filter(|labels| !labels.is_empty());
    labels
        .into_iter()
        .chain(expressions)
        .collect::<Vec<_>>()
        .join(",")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().map_or(&[][..], Vec::as_slice).iter()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(port: ForwardPort) -> Target {
        Target {
            kind: "service".into(),
            name: "web".into(),
            namespace: "shop".into(),
            port,
            address: "127.0.0.1".into(),
            local_port: None,
        }
    }

    #[test]
    fn a_services_port_leads_to_its_target_port() {
        let service = json!({"spec": {"ports": [
            {"port": 80, "name": "http", "targetPort": "web"}, {"port": 81, "targetPort": 8081}, {"port": 82}]}});
        let of = |port| target_port(service_port(&service, &target(port)).unwrap());
        assert_eq!(of(ForwardPort::Number(80)), ForwardPort::Name("web".into()));
        assert_eq!(
            of(ForwardPort::Name("http".into())),
            ForwardPort::Name("web".into())
        );
        assert_eq!(of(ForwardPort::Number(81)), ForwardPort::Number(8081));
        assert_eq!(of(ForwardPort::Number(82)), ForwardPort::Number(82));
        let error = service_port(&service, &target(ForwardPort::Number(90))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot forward service/web: it has no port 90; it has 80 (http), 81, 82"
        );
    }

    #[test]
    fn selectors_are_written_as_the_api_reads_them() {
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]});
        assert_eq!(label_selector(&selector), "app=web,tier in (a,b),!old");
        assert_eq!(label_selector(&json!({"app": "web"})), "app=web");
    }

    #[test]
    fn a_containers_port_is_found_by_name() {
        let spec = json!({"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]});
        assert_eq!(container_port(&spec, "web"), Some(8080));
        assert_eq!(container_port(&spec, "other"), None);
    }
}
