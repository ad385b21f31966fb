//! A Service is ready when it has its address. An external load balancer is
//! not waited for: many clusters have none (the rule of kstatus).

use serde_json::Value;

use super::Status;

pub(super) fn status(service: &Value) -> Status {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return Status::ready("ready");
    }
    match spec["clusterIP"]
        .as_str()
        .filter(|address| !address.is_empty())
    {
        Some("None") => Status::ready("headless"),
        Some(address) => Status::ready(format!("has the address {address}")),
        None => Status::in_progress("has no address yet"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_ready_with_its_address() {
        let of = |spec: Value| status(&json!({"spec": spec}));
        assert_eq!(
            of(json!({"type": "LoadBalancer"})),
            Status::in_progress("has no address yet")
        );
        let assigned = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7"});
        assert_eq!(of(assigned), Status::ready("has the address 10.96.0.7"));
        assert_eq!(of(json!({"clusterIP": "None"})), Status::ready("headless"));
        assert_eq!(of(json!({"type": "ExternalName"})), Status::ready("ready"));
    }
}
