//! The cases recorded from BuildKit, inside the kinds of pods that clusters allow.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kiln_test_cluster::Cluster;
use serde_json::{Value, json};

use crate::kiln;
use crate::objects;
use crate::structure::root;

/// Everything of the harness lies where no image and no build has anything.
const AT: &str = "/kaniko/cases";
const WORK: &str = "/kaniko/work";

/// Runs all cases in a pod; `rung` is an argument of `kiln-cases`.
fn cases(rung: &str, pod: &Value, container: &Value) {
    some_cases(rung, "", pod, container);
}

/// Runs those with this in their name.
fn some_cases(rung: &str, only: &str, pod: &Value, container: &Value) {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let image = crate::executor_images::pushed(&cluster, "latest");
    let node = tempfile::tempdir().expect("a folder of the node");
    parts(node.path());
    let namespace = cluster.namespace("cases").expect("a namespace");

    let mut main = json!({
        "name": "cases",
        "image": image,
        "command": [format!("{AT}/kiln-cases"), "check", "--rung", rung, "--only", only,
                    "--cases", format!("{AT}/cases"), "--busybox", format!("{AT}/busybox")],
        "env": [{"name": "TMPDIR", "value": WORK}],
        "volumeMounts": [{"name": "cases", "mountPath": AT, "readOnly": true},
                         {"name": "work", "mountPath": WORK}],
    });
    merge(&mut main, container);
    let mut spec = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "containers": [main],
        "volumes": [{"name": "cases", "hostPath": {"path": node.path()}},
                    {"name": "work", "emptyDir": {}}],
    });
    merge(&mut spec, pod);
    let body =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cases"}, "spec": spec});
    let pods = format!("/api/v1/namespaces/{}/pods", namespace.name());
    objects::create(&cluster, &pods, &body);
    let phase = loop {
        let pod = objects::get(&cluster, &format!("{pods}/cases"));
        let phase = pod["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if phase == "Succeeded" || phase == "Failed" {
            break phase;
        }
        // A slow machine takes minutes; a pod that never starts is ended by the run's own limit.
        std::thread::sleep(Duration::from_millis(500));
    };
    let log = objects::log(&cluster, namespace.name(), "cases");
    assert_eq!(phase, "Succeeded", "{log}");
    let summary = log.lines().last().unwrap_or_default();
    assert!(summary.contains("as BuildKit builds them"), "{log}");
    #[expect(clippy::print_stderr, reason = "the count is what the test is run for")]
    {
        eprintln!("{summary}");
    }
}

/// The program, its cases and a busybox, readable for everybody.
fn parts(dir: &Path) {
    let target = kiln::binary()
        .parent()
        .and_then(Path::parent)
        .expect("target")
        .to_owned();
    let arch = std::env::consts::ARCH;
    let program = target.join(format!("{arch}-unknown-linux-musl/debug/kiln-cases"));
    assert!(
        program.exists(),
        "{} is missing: scripts/test builds it",
        program.display()
    );
    fs::copy(program, dir.join("kiln-cases")).expect("the program");
    fs::copy("/bin/busybox", dir.join("busybox")).expect("busybox-static is installed");
    let copied = std::process::Command::new("cp")
        .args(["-a", "--no-preserve=ownership"])
        .arg(root().join("builder/executor/tests/cases"))
        .arg(dir)
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Lays fields over others.
fn merge(base: &mut Value, over: &Value) {
    for (name, value) in over.as_object().into_iter().flatten() {
        base[name] = value.clone();
    }
}

#[test]
fn cases_in_a_default_pod() {
    cases("pod-default", &json!({}), &json!({}));
}

#[test]
fn cases_in_a_pod_with_users_of_its_own() {
    let capabilities = json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}});
    cases("pod-own-users", &json!({"hostUsers": false}), &capabilities);
}

/// Nothing can be mounted there: commands run in place, and a tmpfs is refused by name.
#[test]
fn cases_in_a_pod_with_the_runtimes_seccomp_profile() {
    let profile = json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}});
    cases("pod-runtime-default", &profile, &json!({}));
}

#[test]
fn commands_in_a_chroot_of_a_default_pod() {
    some_cases("chroot", "run/", &json!({}), &json!({}));
}

/// The executor's image has no newuidmap, so everything belongs to one user.
#[test]
fn commands_in_a_pod_of_an_ordinary_user() {
    let user = json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000}});
    some_cases("pod-ordinary", "run/", &user, &json!({}));
}

#[test]
fn cases_in_a_restricted_pod() {
    let restricted = json!({"securityContext": {
        "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000,
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }});
    cases("pod-restricted", &json!({}), &restricted);
}
